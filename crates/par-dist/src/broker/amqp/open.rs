//! Connecting: the channels, queues and consumers of a peer, as they have to be each time.

use super::Shared;
use super::line::Line;
use super::link::{Result, Trouble};
use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long one try to connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Letters that the server sends ahead.
const LETTERS: u16 = 256;
/// Queues that nobody uses live so long, in milliseconds.
const EXPIRES: i32 = 10 * 60 * 1000;
/// AMQP's code for what is not there.
const NOT_FOUND: u16 = 404;

pub(super) async fn open(shared: &Shared, first: bool) -> Result<Line> {
    let server = &shared.server;
    let limit = if first { CONNECT * 2 } else { CONNECT };
    match timeout(limit, connect(shared, first)).await {
        Ok(opened) => opened,
        Err(_) => Err(Trouble::Lost(format!(
            "no answer from {}:{} within {} s",
            server.host,
            server.port,
            limit.as_secs()
        ))),
    }
}

fn expires() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES));
    arguments
}

async fn connect(shared: &Shared, first: bool) -> Result<Line> {
    let server = &shared.server;
    let uri = AMQPUri {
        scheme: if server.secure {
            AMQPScheme::AMQPS
        } else {
            AMQPScheme::AMQP
        },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: server.user.clone(),
                password: server.password.clone(),
            },
            host: server.host.clone(),
            port: server.port,
        },
        vhost: server.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(server.heartbeat),
            ..AMQPQueryString::default()
        },
    };
    let name = format!("par-dist process {} peer {}", shared.card.pid, shared.me.0);
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        // Tries are counted here, not there.
        .configure_backoff(|backoff| backoff.with_max_times(0));
    let known_by = OwnedTLSConfig {
        identity: None,
        cert_chain: server.authority.clone(),
    };
    let runtime = lapin::runtime::default_runtime()?;
    let connection = Connection::connect_uri_with_config(uri, properties, known_by, runtime).await?;
    let admin = connection.create_channel().await?;
    let own = shared.queue_of(shared.me);
    if !first {
        // It keeps what was written to it meanwhile; a new one would not have that.
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        match admin
            .queue_declare(own.as_str().into(), passive, FieldTable::default())
            .await
        {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => return Err(Trouble::Forgotten),
            Err(error) => return Err(error.into()),
        }
    }
    let out = connection.create_channel().await?;
    declare_work(&out, shared).await?;
    out.queue_declare(own.as_str().into(), QueueDeclareOptions::durable(), expires())
        .await?;
    let exchange = format!("{}.peers", server.prefix);
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    out.exchange_declare(
        exchange.as_str().into(),
        ExchangeKind::Fanout,
        durable,
        FieldTable::default(),
    )
    .await?;
    // Heartbeats are of the moment: the queue goes with its connection, and drops the oldest.
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(10_000));
    let heard = format!(
        "{}.news.{}.{}",
        server.prefix,
        shared.me.0,
        super::peers::number().0
    );
    out.queue_declare(heard.as_str().into(), QueueDeclareOptions::exclusive(), arguments)
        .await?;
    out.queue_bind(
        heard.as_str().into(),
        exchange.as_str().into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    )
    .await?;
    out.confirm_select(ConfirmSelectOptions::default()).await?;
    let beats = connection.create_channel().await?;
    let no_ack = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let news = beats
        .basic_consume(
            heard.as_str().into(),
            "news".into(),
            no_ack,
            FieldTable::default(),
        )
        .await?;
    let inbox = connection.create_channel().await?;
    inbox.basic_qos(LETTERS, BasicQosOptions::default()).await?;
    let letters = inbox
        .basic_consume(
            own.as_str().into(),
            "letters".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let offers = connection.create_channel().await?;
    {
        let mut state = shared.state.lock();
        // Others may have come and gone meanwhile.
        state.beat = Some(true);
        state.peers.sent = None;
        if !first {
            shared.write_again(&mut state, Instant::now());
        }
    }
    Ok(Line::new(connection, [out, beats, offers, inbox], letters, news))
}

pub(super) async fn declare_work(channel: &Channel, shared: &Shared) -> lapin::Result<u64> {
    let queue = channel
        .queue_declare(
            shared.work_queue().as_str().into(),
            QueueDeclareOptions::durable(),
            expires(),
        )
        .await?;
    Ok(queue.message_count().into())
}

fn is_not_found(error: &lapin::Error) -> bool {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => error.get_id() == NOT_FOUND,
        _ => false,
    }
}
