//! Making a file that nobody but its user may read, for SQLite to open.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Threads make files too.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Makes an empty file where there is none, and sees that one that is there may be read and written.
///
/// A file that is there is not opened: to close it again would drop the locks that another connection of this process has on it.
///
/// # Errors
/// What the system refuses.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    let ours = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    match rustix::fs::access(path, ours) {
        Err(rustix::io::Errno::NOENT) => {}
        Ok(()) if path.is_dir() => return Err(rustix::io::Errno::ISDIR.into()),
        other => return Ok(other?),
    }
    // Readable by its user alone, and closed before anybody can find it.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(
        ".{}.{}.new",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    ));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    drop(options.open(&fresh)?);
    let linked = std::fs::hard_link(&fresh, path);
    std::fs::remove_file(&fresh)?;
    match linked {
        // Another process was first.
        Err(refused) if refused.kind() != io::ErrorKind::AlreadyExists => Err(refused),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_made_once_and_is_its_users() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("jobs.db");
        make(&path).expect("made");
        std::fs::write(&path, "kept").expect("write");
        make(&path).expect("there");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "kept");
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1);
        let nowhere = make(&folder.path().join("no/jobs.db")).expect_err("no folder");
        assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
    }
}
