//! A Redis server, and the connections to it: `redis://USER:PASSWORD@HOST:PORT/DB`, and over TLS `rediss://...?cacertfile=FILE`.

use redis::{Client, Connection, RedisError, RedisResult};
use std::time::Duration;

/// How long a server that is there may take for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// Where a server is.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) client: Client,
    /// What the URL says besides.
    options: Vec<(String, String)>,
}

impl Address {
    /// Of a URL, with the options after its `?` that are known; the error says what was wrong and what is expected.
    pub(crate) fn parse(url: &str, known: &[&str]) -> Result<Self, String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut options = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if name != "cacertfile" && !known.contains(&name) {
                let known = ["cacertfile"].iter().chain(known).copied().collect::<Vec<_>>();
                return Err(format!("unknown option {name:?}, known are {}", known.join(", ")));
            }
            options.push((name.to_owned(), value.to_owned()));
        }
        let mut address = Address {
            client: Client::open("redis://127.0.0.1").map_err(|error| error.to_string())?,
            options,
        };
        let secure = base.starts_with("rediss://");
        address.client = match (secure, address.option("cacertfile")) {
            (false, None) => Client::open(base).map_err(|error| error.to_string())?,
            (false, Some(_)) => return Err("cacertfile needs rediss://".to_owned()),
            #[cfg(feature = "redis-tls")]
            (true, file) => secure_client(base, file)?,
            #[cfg(not(feature = "redis-tls"))]
            (true, _) => {
                return Err(
                    "rediss:// needs the feature `redis-tls`, which this program was built without"
                        .to_owned(),
                );
            }
        };
        Ok(address)
    }

    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        let mut options = self.options.iter();
        let option = options.find(|(other, _)| other == name);
        option.map(|(_, value)| value.as_str())
    }

    pub(crate) fn connect(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(CONNECT)?;
        connection.set_read_timeout(Some(ANSWER))?;
        connection.set_write_timeout(Some(ANSWER))?;
        Ok(connection)
    }
}

#[cfg(feature = "redis-tls")]
fn secure_client(url: &str, certificates: Option<&str>) -> Result<Client, String> {
    // Who has chosen another provider of cryptography before keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root_cert = match certificates {
        None => None,
        Some(file) => Some(std::fs::read(file).map_err(|error| format!("cacertfile {file}: {error}"))?),
    };
    let certificates = redis::TlsCertificates {
        client_tls: None,
        root_cert,
    };
    Client::build_with_tls(url, certificates).map_err(|error| error.to_string())
}

/// Whether an error is of the connection, or of a server that is starting, or is no master for now.
pub(crate) fn is_away(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(
            error.code(),
            Some("LOADING" | "MASTERDOWN" | "READONLY" | "TRYAGAIN" | "BUSY")
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_or_refused_by_name() {
        let known = |url: &str| {
            Address::parse(url, &["prefix"]).map(|address| address.option("prefix").map(str::to_owned))
        };
        assert_eq!(known("redis://h:1/0"), Ok(None));
        assert_eq!(known("redis://h:1/0?prefix=jobs"), Ok(Some("jobs".to_owned())));
        let error = known("redis://h:1/0?prefex=jobs").expect_err("a typing error");
        assert!(error.contains("prefex") && error.contains("prefix"), "{error}");
        assert!(
            known("redis://h:1/0?cacertfile=x")
                .expect_err("no TLS")
                .contains("rediss://")
        );
        assert!(known("redis://h:1/zero").is_err());
        #[cfg(feature = "redis-tls")]
        {
            assert_eq!(known("rediss://h:1/0"), Ok(None));
            let error = known("rediss://h:1/0?cacertfile=/no/such/file").expect_err("no file");
            assert!(error.contains("/no/such/file"), "{error}");
        }
    }
}
