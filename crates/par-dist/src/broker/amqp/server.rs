//! The parts of a server's URL.

use std::time::Duration;

const PORT: u16 = 5672;
const SECURE_PORT: u16 = 5671;
const HEARTBEAT: u16 = 10;
/// The longest message that a server takes if it is told nothing: 16 MiB from RabbitMQ 4 on, 128 before.
const LONGEST: usize = 16 << 20;
/// No server takes more.
const MOST: usize = 512 << 20;
/// What a message needs besides its payload, and more.
const MARGIN: usize = 1 << 20;
/// Queues have names of at most 255 bytes.
const PREFIX: usize = 60;

/// A server, as its URL names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) vhost: String,
    /// What the names of queues and exchanges begin with.
    pub(super) prefix: String,
    /// Seconds.
    pub(super) heartbeat: u16,
    /// The longest payload of a message.
    pub(super) longest: usize,
    /// Over TLS.
    pub(super) secure: bool,
    /// The certificates by which the server is known, in PEM, instead of the system's.
    pub(super) authority: Option<String>,
}

impl Server {
    /// Reads a URL; the error says what was expected.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let secure = scheme == "amqps";
        if secure && !cfg!(feature = "amqp-tls") {
            return Err("it needs the feature `amqp-tls`, which this program was built without".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') || query.contains('@') {
            // It may be a piece of a password: nothing of it is repeated.
            return Err("an @ behind the host; in the user, the password and the virtual host a / is written %2f, a ? %3f and an @ %40"
                .to_owned());
        }
        let (login, address) = authority.rsplit_once('@').unwrap_or(("guest:guest", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, "guest"));
        let (host, port) = match address.strip_prefix('[') {
            Some(six) => {
                let (host, port) = six
                    .split_once(']')
                    .ok_or("an address that begins with [ has to end with ]")?;
                (host, port)
            }
            None => address.find(':').map_or((address, ""), |at| address.split_at(at)),
        };
        if host.is_empty() {
            return Err("the host is missing; expected amqp://USER:PASSWORD@HOST:PORT/VHOST".to_owned());
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() && secure => SECURE_PORT,
            None if port.is_empty() => PORT,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("bad port {digits:?}; expected a number from 1 to 65535"))?,
            None => return Err(format!("{port:?} behind the address; expected :PORT")),
        };
        if path.contains('/') {
            return Err(format!(
                "bad virtual host {path:?}; a / in its name is written %2f"
            ));
        }
        let vhost = if path.is_empty() {
            "/".to_owned()
        } else {
            unescape(path)?
        };
        let mut server = Server {
            user: unescape(user)?,
            // Which is not repeated.
            password: unescape(password).map_err(|_| {
                "bad % in the password; expected two hexadecimal digits behind it, and UTF-8 in all"
                    .to_owned()
            })?,
            host: host.to_owned(),
            port,
            vhost,
            prefix: "par".to_owned(),
            heartbeat: HEARTBEAT,
            longest: LONGEST - MARGIN,
            secure,
            authority: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "prefix" => {
                    let prefix = unescape(value)?;
                    if prefix.is_empty() || prefix.len() > PREFIX || prefix.starts_with("amq.") {
                        return Err(format!(
                            "bad prefix {prefix:?}; expected 1 to {PREFIX} bytes that do not begin with \"amq.\""
                        ));
                    }
                    server.prefix = prefix;
                }
                "heartbeat" => {
                    server.heartbeat =
                        value
                            .parse()
                            .ok()
                            .filter(|s| (1..=600).contains(s))
                            .ok_or_else(|| {
                                format!("bad heartbeat {value:?}; expected a number of seconds from 1 to 600")
                            })?;
                }
                "max_message_size" => {
                    let bytes: Option<usize> = value.parse().ok();
                    let bytes = bytes.filter(|bytes| (2 * MARGIN..=MOST).contains(bytes));
                    let bytes = bytes.ok_or_else(|| {
                        format!(
                            "bad max_message_size {value:?}; expected a number of bytes from {} to {MOST}",
                            2 * MARGIN
                        )
                    })?;
                    server.longest = bytes - MARGIN;
                }
                "cacertfile" if secure => {
                    let file = unescape(value)?;
                    let read = std::fs::read_to_string(&file);
                    server.authority = Some(read.map_err(|error| format!("cacertfile {file}: {error}"))?);
                }
                other => {
                    return Err(format!(
                        "unknown parameter {other:?}; expected prefix, heartbeat, max_message_size or, with amqps, cacertfile"
                    ));
                }
            }
        }
        Ok(server)
    }

    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat.into())
    }
}

/// Replaces each `%` with two digits by its byte.
fn unescape(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => {
                return Err(format!(
                    "bad % in {text:?}; expected two hexadecimal digits behind it"
                ));
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_what_is_wrong_with_one_is_told() {
        let short = Server::parse("amqp://localhost").expect("short");
        assert_eq!(
            (
                &short.user[..],
                &short.password[..],
                short.port,
                &short.vhost[..],
                &short.prefix[..]
            ),
            ("guest", "guest", 5672, "/", "par")
        );
        let long = Server::parse(
            "amqp://a%40b:p%3aq@[::1]:99/x%2fy?prefix=jobs&heartbeat=3&max_message_size=134217728",
        )
        .expect("long");
        assert_eq!(
            long,
            Server {
                user: "a@b".to_owned(),
                password: "p:q".to_owned(),
                host: "::1".to_owned(),
                port: 99,
                vhost: "x/y".to_owned(),
                prefix: "jobs".to_owned(),
                heartbeat: 3,
                longest: 127 << 20,
                secure: false,
                authority: None,
            }
        );
        #[cfg(feature = "amqp-tls")]
        {
            let secure = Server::parse("amqps://h").expect("secure");
            assert_eq!((secure.port, secure.secure), (5671, true));
            let error = Server::parse("amqps://h?cacertfile=/nowhere").expect_err("no file");
            assert!(error.starts_with("cacertfile /nowhere: "), "{error}");
        }
        for (url, expected) in [
            (
                "amqp://",
                "the host is missing; expected amqp://USER:PASSWORD@HOST:PORT/VHOST",
            ),
            ("amqp://h:0", "bad port \"0\"; expected a number from 1 to 65535"),
            ("amqp://h:x", "bad port \"x\"; expected a number from 1 to 65535"),
            ("amqp://[::1", "an address that begins with [ has to end with ]"),
            (
                "amqp://h/a/b",
                "bad virtual host \"a/b\"; a / in its name is written %2f",
            ),
            (
                "amqp://h/%2",
                "bad % in \"%2\"; expected two hexadecimal digits behind it",
            ),
            ("amqp://h/%ff", "\"%ff\" is no UTF-8"),
            (
                "amqp://ann:se%cret@h",
                "bad % in the password; expected two hexadecimal digits behind it, and UTF-8 in all",
            ),
            (
                "amqp://ann:se/cret@h",
                "an @ behind the host; in the user, the password and the virtual host a / is written %2f, a ? %3f and an @ %40",
            ),
            (
                "amqp://ann:se?cret@h",
                "an @ behind the host; in the user, the password and the virtual host a / is written %2f, a ? %3f and an @ %40",
            ),
            (
                "amqp://h?x=1",
                "unknown parameter \"x\"; expected prefix, heartbeat, max_message_size or, with amqps, cacertfile",
            ),
            (
                "amqp://h?heartbeat=0",
                "bad heartbeat \"0\"; expected a number of seconds from 1 to 600",
            ),
            (
                "amqp://h?max_message_size=1",
                "bad max_message_size \"1\"; expected a number of bytes from 2097152 to 536870912",
            ),
            (
                "amqp://h?prefix=amq.x",
                "bad prefix \"amq.x\"; expected 1 to 60 bytes that do not begin with \"amq.\"",
            ),
        ] {
            assert_eq!(Server::parse(url).expect_err(url), expected, "{url}");
        }
    }
}
