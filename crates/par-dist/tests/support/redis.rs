//! A Redis server of one's own, for tests: on a free port of the loopback, in a folder of its own. Each command is on the disk before it is
//! answered. It ends with the value, and with the process that started it, however that ends.

use std::io::{Error, Result, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

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
    /// What it writes to its disk, and when.
    keeps: [&'static str; 4],
    server: Child,
    guard: Child,
    told: Option<ChildStdin>,
}

impl Redis {
    /// Starts a server and waits until it answers.
    pub(crate) fn start() -> Result<Self> {
        Self::start_that(["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// One that forgets everything when it ends.
    #[allow(dead_code, reason = "not every test uses it")]
    pub(crate) fn start_forgetful() -> Result<Self> {
        Self::start_that(["--appendonly", "no", "--appendfsync", "no"])
    }

    fn start_that(keeps: [&'static str; 4]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // Nobody else gets a port that was just given: the system goes round them.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .spawn()?;
        let told = guard.stdin.take();
        let server = launch(folder.path(), port, keeps)?;
        let mut redis = Redis {
            folder,
            port,
            keeps,
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
        self.server = launch(self.folder.path(), self.port, self.keeps)?;
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

fn launch(folder: &std::path::Path, port: u16, keeps: [&str; 4]) -> Result<Child> {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
        .args(keeps)
        .arg("--dir")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Error::other(format!("redis-server: {error}: apt-get install -y redis-server")))
}
