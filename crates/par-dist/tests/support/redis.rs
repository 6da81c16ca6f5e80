//! A Redis server of one's own, for tests: on a free port of the loopback, in a folder of its own. Each command is on the disk before it is
//! answered. It ends with the value, and with the process that started it, however that ends.

#[path = "certificates.rs"]
#[allow(clippy::duplicate_mod, reason = "some use both servers")]
mod certificates;

use std::io::{Error, Result, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Each command is on the disk before it is answered.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Ends processes once its standard input ends: the last line says which.
const GUARD: &str = r#"
now=""
while read -r line; do now="$line"; done
for one in $now; do kill -s KILL -- "$one" 2>/dev/null; done
rm -rf -- "$1"
"#;

pub(crate) struct Redis {
    folder: tempfile::TempDir,
    port: u16,
    /// Its options.
    options: Vec<String>,
    tls: Option<u16>,
    server: Child,
    guard: Child,
    told: Option<ChildStdin>,
}

impl Redis {
    /// Starts a server and waits until it answers.
    pub(crate) fn start() -> Result<Self> {
        Self::start_that(&DURABLE, false)
    }

    /// One that forgets everything when it ends.
    #[allow(dead_code, reason = "not every test uses it")]
    pub(crate) fn start_forgetful() -> Result<Self> {
        Self::start_that(&["--appendonly", "no"], false)
    }

    /// One with a second port for TLS, and a certificate that its own authority has signed.
    pub(crate) fn start_with_tls() -> Result<Self> {
        Self::start_that(&DURABLE, true)
    }

    /// The address over TLS, and the certificate of the authority; none without.
    pub(crate) fn tls(&self) -> Option<(String, std::path::PathBuf)> {
        let url = format!("rediss://localhost:{}/0", self.tls?);
        Some((url, self.folder.path().join("authority.pem")))
    }

    fn start_that(options: &[&str], with_tls: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let mut tls = None;
        if with_tls {
            certificates::make(folder.path())?;
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let files =
                "--tls-cert-file server.pem --tls-key-file server.key --tls-ca-cert-file authority.pem";
            let more = format!("--tls-port {port} {files} --tls-auth-clients no");
            options.extend(more.split(' ').map(str::to_owned));
            tls = Some(port);
        }
        // Nobody else gets a port that was just given: the system goes round them.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .spawn()?;
        let told = guard.stdin.take();
        let server = launch(folder.path(), port, &options)?;
        let mut redis = Redis {
            folder,
            port,
            options,
            tls,
            server,
            guard,
            told,
        };
        redis.ready()?;
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// The port that it listens on.
    #[allow(dead_code, reason = "not every test uses it")]
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A connection past all that is tested.
    pub(crate) fn connection(&self) -> Result<redis::Connection> {
        let client = redis::Client::open(self.url()).map_err(Error::other)?;
        client.get_connection().map_err(Error::other)
    }

    fn ready(&mut self) -> Result<()> {
        if let Some(told) = &mut self.told {
            told.write_all(format!("{}\n", self.server.id()).as_bytes())?;
        }
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let answers = |mut connection: redis::Connection| {
                redis::cmd("PING").query::<String>(&mut connection).is_ok()
            };
            if self.connection().is_ok_and(answers) {
                return Ok(());
            }
            if Instant::now() > until || self.server.try_wait()?.is_some() {
                return Err(Error::other("the Redis server does not start"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.server.kill()?;
        self.server.wait()?;
        Ok(())
    }

    /// Starts it again, in the same folder.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.server = launch(self.folder.path(), self.port, &self.options)?;
        self.ready()
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let pid = self.server.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status()?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| Error::other(format!("kill {name}: {status}")))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.kill();
        if let Some(told) = &mut self.told {
            let _ = told.write_all(b"\n");
        }
        self.told = None;
        let _ = self.guard.wait();
    }
}

fn launch(folder: &std::path::Path, port: u16, options: &[String]) -> Result<Child> {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
        .args(options)
        .arg("--dir")
        .arg(folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Error::other(format!("redis-server: {error}: apt-get install -y redis-server")))
}
