//! How tasks and results go to a RabbitMQ server, and the queues that they go to.

use super::Shared;
use super::confirm::Confirm;
use super::link::Link;
use super::order::Answer;
use super::table::to_table;
use crate::app::broker::{LEFT, Outgoing};
use crate::app::time::millis_until;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};

const PERSISTENT: u8 = 2;
/// How many bytes of bodies may wait to be written.
const AHEAD: usize = 4 << 20;

impl Link {
    /// Sends a result to who called; nothing where it cannot be said where that is.
    pub(super) async fn answer(&mut self, answer: &Answer) -> lapin::Result<Option<Confirm>> {
        let Answer { to, id, document } = answer;
        let (Ok(to), Ok(id)) = (
            ShortString::try_new(to.as_str()),
            ShortString::try_new(id.as_str()),
        ) else {
            tracing::warn!("dropped a result whose id or queue is too long");
            return Ok(None);
        };
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_correlation_id(id)
            .with_delivery_mode(PERSISTENT);
        // Who has left reads none.
        let options = BasicPublishOptions::default();
        let sent = self.send(to.as_str(), document.clone(), properties, options);
        sent.await.map(Some)
    }

    /// Sends a task to its queue, or to one where it waits (rule 4).
    pub(super) async fn publish(&mut self, shared: &Shared, task: &Outgoing) -> lapin::Result<Confirm> {
        let left = task.at.map_or(0, |at| millis_until(at, Timestamp::now()));
        let (place, left) = self.place(shared, &task.queue, left).await?;
        let mut headers = to_table(&task.message.write_headers());
        if task.at.is_some() {
            headers.insert(LEFT.into(), AMQPValue::LongLongInt(left));
        }
        let message = &task.message;
        let reply_to = message
            .properties
            .reply_to
            .as_deref()
            .unwrap_or(&shared.reply_queue);
        let properties = BasicProperties::default()
            .with_content_type(message.properties.content_type.as_str().into())
            .with_content_encoding(message.properties.content_encoding.as_str().into())
            .with_correlation_id(message.properties.correlation_id.as_str().into())
            .with_reply_to(reply_to.into())
            .with_priority(message.properties.priority)
            .with_delivery_mode(PERSISTENT)
            .with_headers(headers);
        self.put(&place, message.write_body(), properties).await
    }

    /// Sends a task to a queue.
    pub(super) async fn put(
        &mut self,
        queue: &str,
        body: Vec<u8>,
        properties: BasicProperties,
    ) -> lapin::Result<Confirm> {
        // What no queue takes comes back.
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        self.send(queue, body, properties, mandatory).await
    }

    async fn send(
        &mut self,
        queue: &str,
        body: Vec<u8>,
        properties: BasicProperties,
        options: BasicPublishOptions,
    ) -> lapin::Result<Confirm> {
        self.unwritten += body.len();
        let mut confirm = Confirm::of(&self.channel, queue, options, body, properties)?;
        if self.unwritten > AHEAD {
            confirm.written().await?;
            self.unwritten = 0;
        }
        Ok(confirm)
    }

    /// A queue that is there already may have options of its own: only one that is not is made.
    pub(super) async fn declare(&mut self, shared: &Shared, queue: &str) -> lapin::Result<()> {
        if self.declared.contains(queue) {
            return Ok(());
        }
        // A look at what is not there closes the channel.
        let look = self.connection.create_channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let found = look
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await;
        match found {
            Ok(_) => look.close(200, "".into()).await?,
            Err(_) => {
                if let Some(dead) = &shared.kinds.dead_letters {
                    let plain = shared.kinds.arguments(dead);
                    let durable = QueueDeclareOptions::durable();
                    self.channel
                        .queue_declare(dead.as_str().into(), durable, plain)
                        .await?;
                }
                let arguments = shared.kinds.arguments(queue);
                self.channel
                    .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
                    .await?;
            }
        }
        self.declared.insert(queue.to_owned());
        Ok(())
    }
}
