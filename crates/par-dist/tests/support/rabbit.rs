//! A RabbitMQ server of one's own, for tests and measurements: on a free port of the loopback, in a folder of its own, with an epmd of
//! its own. It ends with the value, and with the process that started it, however that ends.

#[path = "certificates.rs"]
#[allow(clippy::duplicate_mod, reason = "some use both servers")]
mod certificates;

use std::fs;
use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const START: Duration = Duration::from_secs(120);

/// While it starts, the server cannot move on yet what was due while it was away; it tries again after so long, by default after three minutes
/// (docs/scale.md).
const RETRY_SOON: &str = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 10000}]}].\n";

/// Ends groups of processes and removes a folder once its standard input ends: the last line says which.
const GUARD: &str = r#"
now=""
while read -r line; do now="$line"; done
for group in $now; do kill -s KILL -- "-$group" 2>/dev/null; done
# What the server still writes while it ends must not keep the folder.
for again in 1 2 3 4 5; do rm -rf -- "$1" && break; done
"#;

/// A running server.
pub(crate) struct Rabbit {
    folder: PathBuf,
    port: u16,
    epmd_port: u16,
    distribution: u16,
    epmd: Child,
    server: Child,
    guard: Child,
    groups: Option<ChildStdin>,
    tls: Option<u16>,
}

/// What a server with TLS on a port is configured with.
fn secure(folder: &Path, port: u16) -> Result<String> {
    certificates::make(folder)?;
    let path = |name: &str| folder.join(name).display().to_string();
    Ok(format!(
        "listeners.ssl.local = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n",
        path("authority.pem"),
        path("server.pem"),
        path("server.key")
    ))
}

impl Rabbit {
    /// Starts a server and waits until it takes connections.
    pub(crate) fn start() -> Result<Self> {
        Rabbit::start_as(false)
    }

    /// With a second port for TLS, and a certificate that its own authority has signed.
    pub(crate) fn start_with_tls() -> Result<Self> {
        Rabbit::start_as(true)
    }

    /// The address over TLS, and the certificate of the authority; none without.
    pub(crate) fn tls(&self) -> Option<(String, PathBuf)> {
        let port = self.tls?;
        Some((
            format!("amqps://localhost:{port}/%2f"),
            self.folder.join("authority.pem"),
        ))
    }

    fn start_as(with_tls: bool) -> Result<Self> {
        if !Path::new(SERVER).exists() {
            return Err(Error::other(format!(
                "there is no RabbitMQ here ({SERVER}): apt-get install -y --no-install-recommends rabbitmq-server"
            )));
        }
        let (port, epmd_port, distribution) = (free()?, free()?, free()?);
        let folder = std::env::temp_dir().join(format!("rabbit-{}-{port}", std::process::id()));
        fs::create_dir(&folder)?;
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let groups = guard.stdin.take();
        let tls = if with_tls { Some(free()?) } else { None };
        let mut config = format!(
            "listeners.tcp.local = 127.0.0.1:{port}\nlog.console = false\nlog.file.level = warning\n"
        );
        if let Some(tls) = tls {
            config += &secure(&folder, tls)?;
        }
        fs::write(folder.join("rabbitmq.conf"), config)?;
        fs::write(folder.join("advanced.config"), RETRY_SOON)?;
        fs::write(folder.join("enabled_plugins"), "[].\n")?;
        let mut epmd = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port"])
            .arg(epmd_port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let server = match launch(&folder, port, epmd_port, distribution) {
            Ok(server) => server,
            Err(error) => {
                let _ = epmd.kill();
                let _ = epmd.wait();
                return Err(error);
            }
        };
        let mut rabbit = Rabbit {
            folder,
            port,
            epmd_port,
            distribution,
            epmd,
            server,
            guard,
            groups,
            tls,
        };
        rabbit.tell_guard()?;
        rabbit.wait_ready()?;
        Ok(rabbit)
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}/%2f", self.port)
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The names of its queues that begin so.
    pub(crate) fn queues(&self, prefix: &str) -> Result<Vec<String>> {
        let text = self.control(&["list_queues", "--no-table-headers", "name"])?;
        let names = text.lines().filter(|name| name.starts_with(prefix));
        Ok(names.map(str::to_owned).collect())
    }

    /// Runs one of its administrator's commands; what it says.
    pub(crate) fn control(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .environment(Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl"))
            .args(["-q", "--node"])
            .arg(format!("rabbit-{}@localhost", self.port))
            .args(arguments)
            .output()?;
        if !output.status.success() {
            return Err(Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.signal("-KILL")?;
        self.server.wait()?;
        // Its epmd keeps the name until the socket of the node has closed; starting again waits for that.
        Ok(())
    }

    /// Ends it in peace, as a restart of its service would.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.signal("-TERM")?;
        self.server.wait()?;
        Ok(())
    }

    /// Starts it again, in the same folder, after a kill or a stop.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.server = launch(&self.folder, self.port, self.epmd_port, self.distribution)?;
        self.tell_guard()?;
        self.wait_ready()
    }

    /// Stops its processes where they are.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill")
            .args([name, "--", &format!("-{}", self.server.id())])
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::other(format!("kill {name}: {status}")))
        }
    }

    fn tell_guard(&mut self) -> Result<()> {
        let line = format!("{} {}\n", self.server.id(), self.epmd.id());
        match &mut self.groups {
            Some(groups) => groups.write_all(line.as_bytes()),
            None => Ok(()),
        }
    }

    /// Waits until the server greets.
    fn wait_ready(&mut self) -> Result<()> {
        let until = Instant::now() + START;
        loop {
            if self.greets().unwrap_or(false) {
                return Ok(());
            }
            if let Some(status) = self.server.try_wait()? {
                return Err(Error::other(format!(
                    "RabbitMQ ended at its start ({status}): {}",
                    self.log()
                )));
            }
            if Instant::now() > until {
                let text = format!(
                    "RabbitMQ was not ready after {} s: {}",
                    START.as_secs(),
                    self.log()
                );
                return Err(Error::other(text));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn greets(&self) -> Result<bool> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        // The first byte of a method frame: connection.start.
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        Ok(byte == [1])
    }

    /// What its tools need to find it.
    fn environment(&self, mut command: Command) -> Command {
        command
            .env("HOME", &self.folder)
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .stdin(Stdio::null());
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        // One that was frozen would not see its end.
        let _ = self.thaw();
        let _ = self.signal("-KILL");
        let _ = self.server.wait();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
        let _ = fs::remove_dir_all(&self.folder);
        // Nothing is left for the guard to end: process numbers may be others' by now.
        if let Some(groups) = &mut self.groups {
            let _ = groups.write_all(b"\n");
        }
        self.groups = None;
        let _ = self.guard.wait();
    }
}

/// A free port below those that the system gives to outgoing connections: one of these could take it before the server does, or
/// while the server is away. Each caller gets another, and processes begin far apart.
fn free() -> Result<u16> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    let offset = (std::process::id() % 1000) as u16 * 20;
    for _ in 0..COUNT {
        let next = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (offset + next % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::other(format!("no port from {FIRST} on is free")))
}

fn launch(folder: &Path, port: u16, epmd: u16, distribution: u16) -> Result<Child> {
    let output = fs::File::create(folder.join("output"))?;
    Command::new(SERVER)
        .env("HOME", folder)
        .env("ERL_CRASH_DUMP", folder.join("crash"))
        .env("RABBITMQ_NODENAME", format!("rabbit-{port}@localhost"))
        .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env("RABBITMQ_PID_FILE", folder.join("pid"))
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("advanced.config"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("ERL_EPMD_PORT", epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
}
