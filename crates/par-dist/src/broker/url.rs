//! Where a broker is: the file of one, or the URL of a server.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a broker is: a file, or the URL of a RabbitMQ server (feature `amqp`) or of a Redis server (feature `redis`).
///
/// Made of a path or of a text; a text that has `://` in it is a URL, of which all but the host may be left out:
///
/// - `amqp://USER:PASSWORD@HOST:PORT/VHOST?prefix=NAME&heartbeat=SECONDS&max_message_size=BYTES`: user and password are `guest`, the port is 5672, the
///   virtual host `/` (written `%2f`), the heartbeat 10 s: a server from which nothing comes for twice as long is tried anew. The names of all queues
///   and exchanges begin with the prefix, by default `par`. A message has up to 16 MiB, as servers from RabbitMQ 4 on take no more unless they are
///   configured to (`max_message_size`, there and here). Over TLS (feature `amqp-tls`) it is `amqps://`, the port 5671, and
///   `cacertfile=FILE` has the certificates that are trusted, instead of the system's.
/// - `redis://USER:PASSWORD@HOST:PORT/DB?prefix=NAME`, and over TLS (feature `redis-tls`) `rediss://...?cacertfile=FILE`.
///
/// What is wrong with a URL
/// is told by who opens the broker.
///
/// ```
/// use par_dist::BrokerUrl;
/// assert_eq!(BrokerUrl::from("/var/tmp/jobs.db").to_string(), "/var/tmp/jobs.db");
/// // Shown without its password.
/// // In the user, the password and the virtual host, what is not a letter or a digit is best written as % and two digits.
/// let server = BrokerUrl::from("amqp://ann:secret@example.org/%2f");
/// assert_eq!(server.to_string(), "amqp://ann:***@example.org/%2f");
/// ```
#[doc(alias = "broker_url")]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerUrl(pub(super) Place);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    File(PathBuf),
    Server(String),
}

impl From<&str> for BrokerUrl {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for BrokerUrl {
    fn from(text: String) -> Self {
        if text.contains("://") {
            BrokerUrl(Place::Server(text))
        } else {
            BrokerUrl(Place::File(text.into()))
        }
    }
}

impl From<PathBuf> for BrokerUrl {
    fn from(path: PathBuf) -> Self {
        BrokerUrl(Place::File(path))
    }
}

impl From<&PathBuf> for BrokerUrl {
    fn from(path: &PathBuf) -> Self {
        path.clone().into()
    }
}

impl From<&Path> for BrokerUrl {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => path.display().fmt(f),
            Place::Server(url) => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                // A password with a / or a ? in it makes no good URL, and is not shown either: whatever stands before the last @.
                match rest.rsplit_once('@') {
                    Some((login, host)) => {
                        let user = login.split([':', '/', '?']).next().unwrap_or_default();
                        write!(f, "{scheme}://{user}:***@{host}")
                    }
                    None => f.write_str(url),
                }
            }
        }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_password_is_shown() {
        for (url, shown) in [
            ("amqp://h:1/v?prefix=p", "amqp://h:1/v?prefix=p"),
            ("amqp://ann@h/v", "amqp://ann:***@h/v"),
            ("amqp://ann:s@c/ret@h:1/v", "amqp://ann:***@h:1/v"),
            ("amqp://ann:s/e:c?ret@h", "amqp://ann:***@h"),
            ("amqp://ann:12/34@h", "amqp://ann:***@h"),
            ("amqp://:secret@h", "amqp://:***@h"),
        ] {
            let url = BrokerUrl::from(url);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("BrokerUrl({shown})"));
        }
    }
}
