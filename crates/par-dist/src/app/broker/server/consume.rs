//! What a worker consumes from a RabbitMQ server, and how it says that it is done with it.

use super::Shared;
use super::deliver;
use super::link::Link;
use super::order::Sent;
use super::source::Source;
use crate::app::control_message;
use lapin::ExchangeKind;
use lapin::message::DeliveryResult;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use std::collections::VecDeque;
use std::sync::Arc;

fn consumer_of(queue: &str) -> ShortString {
    format!("par.{queue}").into()
}

impl Link {
    pub(super) async fn consume(
        &mut self,
        shared: &Arc<Shared>,
        queue: &str,
        prefetch: u16,
    ) -> lapin::Result<()> {
        if self.consuming.is_empty() {
            self.hear_all(shared).await?;
        }
        if !self.consuming.insert(queue.to_owned()) {
            return Ok(());
        }
        // It is of the consumers that come after it, each.
        self.channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await?;
        self.declare(shared, queue).await?;
        let options = BasicConsumeOptions::default();
        let consumer = self
            .channel
            .basic_consume(queue.into(), consumer_of(queue), options, FieldTable::default())
            .await?;
        let source = Source::new(queue, self.epoch, consumer);
        shared.state.lock().sources.push(source);
        // Who waits registers with it.
        shared.ring.ring();
        Ok(())
    }

    /// Consumes no more from those of the queues of which this was the last worker; what was delivered and not leased goes back.
    pub(super) async fn leave(
        &mut self,
        shared: &Shared,
        queues: &[String],
        sent: &mut VecDeque<Sent>,
    ) -> lapin::Result<()> {
        let mut last = Vec::new();
        // First, so that the next connection knows it as well.
        {
            let consumed = &mut shared.state.lock().consumed;
            for queue in queues {
                if let Some((users, _)) = consumed.get_mut(queue) {
                    *users -= 1;
                    if *users == 0 {
                        consumed.remove(queue);
                        last.push(queue);
                    }
                }
            }
        }
        for queue in last {
            self.consume_no_more(shared, queue, sent).await?;
        }
        Ok(())
    }

    async fn consume_no_more(
        &mut self,
        shared: &Shared,
        queue: &str,
        sent: &mut VecDeque<Sent>,
    ) -> lapin::Result<()> {
        self.leave_later(shared, queue, sent).await?;
        if self.consuming.remove(queue) {
            let options = BasicCancelOptions::default();
            self.channel.basic_cancel(consumer_of(queue), options).await?;
        }
        let source = {
            let sources = &mut shared.state.lock().sources;
            let at = sources.iter().position(|source| source.queue == queue);
            at.map(|at| sources.swap_remove(at))
        };
        for tag in source.map(Source::rest).unwrap_or_default() {
            self.refuse(tag, true).await?;
        }
        Ok(())
    }

    pub(super) async fn refuse(&mut self, tag: u64, requeue: bool) -> lapin::Result<()> {
        let options = BasicNackOptions {
            requeue,
            multiple: false,
        };
        self.channel.basic_nack(tag, options).await?;
        // A later word covers it, when it is settled already.
        self.acks.settle([tag]);
        Ok(())
    }

    /// The exchange of messages to all workers.
    pub(super) async fn declare_all(&mut self) -> lapin::Result<()> {
        if self.declared.contains(control_message::EXCHANGE) {
            return Ok(());
        }
        // Celery's may have other options, and a mismatch closes the channel.
        let look = self.connection.create_channel().await?;
        let options = ExchangeDeclareOptions::default();
        let declared = look
            .exchange_declare(
                control_message::EXCHANGE.into(),
                ExchangeKind::Fanout,
                options,
                FieldTable::default(),
            )
            .await;
        match declared {
            Ok(()) => look.close(200, "".into()).await?,
            Err(error) => tracing::debug!(%error, "the exchange for all workers is there with other options"),
        }
        self.declared.insert(control_message::EXCHANGE.to_owned());
        Ok(())
    }

    /// Hears what is told to all workers, in a queue that is gone with the connection.
    pub(super) async fn hear_all(&mut self, shared: &Arc<Shared>) -> lapin::Result<()> {
        self.declare_all().await?;
        let channel = self.connection.create_channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let queue: ShortString = format!("{}.celery.pidbox", uuid::Uuid::new_v4()).into();
        let bind = QueueBindOptions::default();
        let exchange = control_message::EXCHANGE.into();
        channel
            .queue_declare(queue.clone(), options, FieldTable::default())
            .await?;
        channel
            .queue_bind(queue.clone(), exchange, "".into(), bind, FieldTable::default())
            .await?;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = channel
            .basic_consume(queue, "".into(), options, FieldTable::default())
            .await?;
        let here = Arc::clone(shared);
        consumer.set_delegate(move |delivery: DeliveryResult| {
            if let Ok(Some(delivery)) = delivery {
                deliver::told(&here, &delivery);
            }
            std::future::ready(())
        });
        Ok(())
    }
}
