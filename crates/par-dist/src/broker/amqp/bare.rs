//! For the bench and the tests alone: the same work with the bare client and nothing around it. Its acknowledgements, prefetch, persistence and
//! confirmations are those of the broker; it grants nothing, keeps nothing and survives nothing.

use futures_core::Stream;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, PublisherConfirm};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Confirmations that are awaited at a time.
const IN_FLIGHT: usize = 2048;

type Result<T> = std::result::Result<T, lapin::Error>;

fn run<T>(future: impl Future<Output = Result<T>>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(future).map_err(std::io::Error::other)
}

async fn channel(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, queue: &str) -> Result<u64> {
    let declared = channel
        .queue_declare(
            queue.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await?;
    Ok(declared.message_count().into())
}

struct Publisher<'a> {
    channel: &'a Channel,
    sent: VecDeque<PublisherConfirm>,
}

impl Publisher<'_> {
    async fn publish(&mut self, queue: &str, body: &[u8]) -> Result<()> {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let confirm = self
            .channel
            .basic_publish("".into(), queue.into(), mandatory, body, persistent)
            .await?;
        self.sent.push_back(confirm);
        while self.sent.len() > IN_FLIGHT
            && let Some(confirm) = self.sent.pop_front()
        {
            confirm.await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        while let Some(confirm) = self.sent.pop_front() {
            confirm.await?;
        }
        Ok(())
    }
}

/// Makes two queues, and fills the first with messages of 64 bytes.
///
/// # Errors
/// What the server refused.
pub fn fill(url: &str, queue: &str, results: &str, messages: u64) -> std::io::Result<()> {
    run(async {
        let (connection, channel) = channel(url).await?;
        declare(&channel, queue).await?;
        declare(&channel, results).await?;
        let mut publisher = Publisher {
            channel: &channel,
            sent: VecDeque::new(),
        };
        for number in 0..messages {
            let mut body = [0; 64];
            body[..8].copy_from_slice(&number.to_le_bytes());
            publisher.publish(queue, &body).await?;
        }
        publisher.flush().await?;
        connection.close(200, "".into()).await
    })
}

/// Sends messages as they are, to a queue through the exchange without a name, or to a fanout exchange.
///
/// # Errors
/// What the server refused.
pub fn send(url: &str, exchange: &str, queue: &str, bodies: &[Vec<u8>]) -> std::io::Result<()> {
    run(async {
        let (connection, channel) = channel(url).await?;
        for body in bodies {
            let options = BasicPublishOptions::default();
            let properties = BasicProperties::default();
            channel
                .basic_publish(exchange.into(), queue.into(), options, body, properties)
                .await?
                .await?;
        }
        connection.close(200, "".into()).await
    })
}

/// How many messages are ready in a queue.
///
/// # Errors
/// What the server refused.
pub fn ready(url: &str, queue: &str) -> std::io::Result<u64> {
    run(async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = connection.create_channel().await?;
        let declared = channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await?;
        connection.close(200, "".into()).await?;
        Ok(declared.message_count().into())
    })
}

/// Removes queues.
///
/// # Errors
/// What the server refused.
pub fn remove(url: &str, queues: &[&str]) -> std::io::Result<()> {
    run(async {
        let (connection, channel) = channel(url).await?;
        for queue in queues {
            channel
                .queue_delete((*queue).into(), QueueDeleteOptions::default())
                .await?;
        }
        connection.close(200, "".into()).await
    })
}

/// Works until the process ends: up to `batch` messages are answered by one message and acknowledged by one acknowledgement.
///
/// # Errors
/// What the server refused.
pub fn work(
    url: &str,
    queue: &str,
    results: &str,
    prefetch: u16,
    batch: usize,
    task: fn(u64) -> u64,
) -> std::io::Result<()> {
    run(async {
        let (_connection, channel) = channel(url).await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let mut consumer = channel
            .basic_consume(
                queue.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        let mut publisher = Publisher {
            channel: &channel,
            sent: VecDeque::new(),
        };
        let mut values = Vec::new();
        loop {
            let taken = poll_fn(|cx| take(&mut consumer, cx, batch)).await?;
            let Some(last) = taken.last().map(|delivery| delivery.delivery_tag) else {
                return Ok(());
            };
            values.clear();
            for delivery in taken {
                let number = delivery.data.first_chunk().copied().unwrap_or_default();
                values.extend(task(u64::from_le_bytes(number)).to_le_bytes());
            }
            publisher.publish(results, &values).await?;
            channel
                .basic_ack(last, BasicAckOptions { multiple: true })
                .await?;
        }
    })
}

/// Takes results out until so many are there.
///
/// # Errors
/// What the server refused.
pub fn collect(url: &str, results: &str, count: u64) -> std::io::Result<()> {
    run(async {
        let (connection, channel) = channel(url).await?;
        channel.basic_qos(256, BasicQosOptions::default()).await?;
        let mut consumer = channel
            .basic_consume(
                results.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        let mut seen = 0;
        while seen < count {
            let taken = poll_fn(|cx| take(&mut consumer, cx, 256)).await?;
            let Some(last) = taken.last().map(|delivery| delivery.delivery_tag) else {
                break;
            };
            seen += taken
                .iter()
                .map(|delivery| delivery.data.len() as u64 / 8)
                .sum::<u64>();
            channel
                .basic_ack(last, BasicAckOptions { multiple: true })
                .await?;
        }
        connection.close(200, "".into()).await
    })
}

/// What has come, at least one and at most so many; nothing at the end.
fn take(
    consumer: &mut Consumer,
    cx: &mut Context<'_>,
    most: usize,
) -> Poll<Result<Vec<lapin::message::Delivery>>> {
    let mut taken = Vec::new();
    while taken.len() < most {
        match Pin::new(&mut *consumer).poll_next(cx) {
            Poll::Ready(Some(Ok(delivery))) => taken.push(delivery),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) => break,
            Poll::Pending if taken.is_empty() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(taken))
}
