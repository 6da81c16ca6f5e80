//! Connections to a RabbitMQ server, or to the first of several that answers.

use super::Shared;
use crate::app::AppError;
use lapin::options::{BasicConsumeOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use std::time::Duration;

/// How long one try may take.
const CONNECT: Duration = Duration::from_secs(10);
/// What a URL may say besides what the protocol knows: the file of the certificate, in PEM, by which a server is known.
const AUTHORITY: &str = "cacertfile";

/// Where servers are, in the order in which they are tried.
pub(super) struct Addresses(Vec<(AMQPUri, Option<String>)>);

impl Addresses {
    /// URLs, separated by `;`.
    pub(super) fn of(urls: &str) -> Result<Self, AppError> {
        let urls = urls.split(';').map(str::trim).filter(|url| !url.is_empty());
        urls.map(address).collect::<Result<_, _>>().map(Addresses)
    }
}

fn address(url: &str) -> Result<(AMQPUri, Option<String>), AppError> {
    let bad = |reason: String| AppError::Option {
        option: "broker",
        reason: format!("{}: {reason}", crate::BrokerUrl::from(url)),
    };
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (ours, theirs): (Vec<_>, Vec<_>) = query
        .split('&')
        .filter(|part| !part.is_empty())
        .partition(|part| part.split('=').next() == Some(AUTHORITY));
    let mut plain = place.to_owned();
    if !theirs.is_empty() {
        plain = format!("{place}?{}", theirs.join("&"));
    }
    let uri: AMQPUri = plain.parse().map_err(bad)?;
    if !cfg!(feature = "amqp-tls") && place.starts_with("amqps:") {
        return Err(bad(
            "it needs the feature `amqp-tls`, which this program was built without".to_owned(),
        ));
    }
    let authority = ours.first().and_then(|part| part.split_once('='));
    let authority = authority.map(|(_, path)| {
        std::fs::read_to_string(path).map_err(|error| bad(format!("cannot read {path}: {error}")))
    });
    Ok((uri, authority.transpose()?))
}

/// What there is on a connection from the beginning.
pub(super) struct Open {
    pub(super) connection: Connection,
    /// What is published on it is confirmed.
    pub(super) channel: Channel,
    /// The channel and the consumer of the queue of replies.
    pub(super) replies: Channel,
    pub(super) results: Consumer,
}

/// Connects to the first that answers.
pub(super) async fn connect(shared: &Shared) -> lapin::Result<Open> {
    let mut last = None;
    for (uri, authority) in &shared.addresses.0 {
        match tokio::time::timeout(CONNECT, open(shared, uri, authority.clone())).await {
            Ok(Ok(open)) => return Ok(open),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput).into()))
}

async fn open(shared: &Shared, uri: &AMQPUri, authority: Option<String>) -> lapin::Result<Open> {
    let properties = ConnectionProperties::default().with_connection_name("par-dist app".into());
    let connection = Connection::connect_uri_with_config(
        uri.clone(),
        properties.configure_backoff(|backoff| backoff.with_max_times(0)),
        OwnedTLSConfig {
            identity: None,
            cert_chain: authority,
        },
        lapin::runtime::default_runtime()?,
    )
    .await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongInt(10 * 60 * 1000));
    let replies = connection.create_channel().await?;
    // It outlives a broken connection, and keeps what arrives meanwhile.
    let queue = shared.reply_queue.as_str();
    replies
        .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
        .await?;
    let consumer = replies
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok(Open {
        connection,
        channel,
        replies,
        results: consumer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_tried_in_their_order_and_what_is_wrong_is_named() {
        let two = Addresses::of("amqp://one:1/%2f; amqp://two:2/v?heartbeat=5;").expect("two");
        let places: Vec<_> = two.0.iter().map(|(uri, _)| uri.authority.host.as_str()).collect();
        assert_eq!(places, ["one", "two"]);
        assert_eq!(two.0[1].0.query.heartbeat, Some(5));
        for (url, part) in [
            ("amqp://ann:secret@h:port/", "broker"),
            ("amqp://h?cacertfile=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ] {
            let refused = Addresses::of(url).err().expect("it is bad").to_string();
            assert!(refused.contains(part) && !refused.contains("secret"), "{refused}");
        }
    }
}
