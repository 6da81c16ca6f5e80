//! The certificate of a server on this machine, and of the authority that signed it, for tests: `server.pem`, `server.key` and `authority.pem`.

use std::fs;
use std::io::{Error, Result};
use std::path::Path;
use std::process::Command;

/// Makes them in a folder.
pub(crate) fn make(folder: &Path) -> Result<()> {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()?;
        if !output.status.success() {
            return Err(Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(())
    };
    fs::write(
        folder.join("names"),
        "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )?;
    let key = "-newkey rsa:2048 -nodes -days 2";
    openssl(&format!(
        "req -x509 {key} -subj /CN=authority -keyout authority.key -out authority.pem"
    ))?;
    openssl(
        &format!("req {key} -subj /CN=localhost -keyout server.key -out server.csr").replace(" -days 2", ""),
    )?;
    openssl(
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names -out server.pem",
    )?;
    Ok(())
}
