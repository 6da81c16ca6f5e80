//! How each order is done on the connection to a RabbitMQ server.

use super::Shared;
use super::confirm::Confirm;
use super::link::Link;
use super::order::Order;
use super::queues;
use crate::app::control_message;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use std::collections::VecDeque;
use std::sync::Arc;

impl Link {
    /// Does what is asked; what is to be confirmed, with its number in the order.
    pub(super) async fn carry_out(
        &mut self,
        shared: &Arc<Shared>,
        order: &Order,
        acknowledged: &mut Vec<u64>,
    ) -> lapin::Result<VecDeque<(Option<usize>, Confirm)>> {
        let mut confirms = VecDeque::new();
        match order {
            Order::Publish(tasks, _) => {
                for (number, task) in tasks.iter().enumerate() {
                    confirms.push_back((Some(number), self.publish(shared, task).await?));
                }
            }
            Order::Conclude(answer, tags) => {
                if let Some(answer) = answer {
                    let confirm = self.answer(answer).await?;
                    confirms.extend(confirm.map(|confirm| (None, confirm)));
                }
                // All that are in the line are told at once.
                acknowledged.extend(self.own(tags));
            }
            other => {
                self.acks.tell(&self.channel, acknowledged.drain(..))?;
                self.obey(shared, other).await?;
            }
        }
        Ok(confirms)
    }

    async fn obey(&mut self, shared: &Arc<Shared>, order: &Order) -> lapin::Result<()> {
        match order {
            Order::Publish(..) | Order::Conclude(..) | Order::Pass(_) | Order::Leave(_) => {}
            Order::Consume {
                queues,
                prefetch,
                reply,
            } => {
                for queue in queues {
                    self.consume(shared, queue, *prefetch).await?;
                }
                // Once, whether or not a connection broke before.
                for queue in queues {
                    let consumed = &mut shared.state.lock().consumed;
                    consumed.entry(queue.clone()).or_insert((0, *prefetch)).0 += 1;
                }
                let _ = reply.send(Ok(()));
                for queue in queues {
                    self.consume_later(shared, queue).await;
                }
            }
            Order::Release(tags) => {
                for tag in self.own(tags) {
                    self.refuse(tag, true).await?;
                }
            }
            Order::Reject(tag) => {
                for tag in self.own(&[*tag]) {
                    self.refuse(tag, false).await?;
                }
            }
            Order::Revoke(revocation, reply) => {
                let body = control_message::revoke(revocation).to_string();
                self.declare_all().await?;
                let properties = BasicProperties::default()
                    .with_content_type("application/json".into())
                    .with_content_encoding("utf-8".into())
                    .with_headers(FieldTable::default());
                let options = BasicPublishOptions::default();
                let exchange = control_message::EXCHANGE.into();
                self.channel
                    .basic_publish(exchange, "".into(), options, body.as_bytes(), properties)
                    .await?
                    .await?;
                let _ = reply.send(Ok(()));
            }
            Order::Flush(reply) => {
                // The server does one thing after the other.
                let passive = QueueDeclareOptions {
                    passive: true,
                    ..QueueDeclareOptions::default()
                };
                let own = shared.reply_queue.as_str().into();
                self.channel
                    .queue_declare(own, passive, FieldTable::default())
                    .await?;
                // Who asked may have given up.
                let _ = reply.send(Ok(()));
            }
            Order::Count(queue, reply) => {
                self.declare(shared, queue).await?;
                // What is known by now may be old.
                let channel = self.connection.create_channel().await?;
                let passive = QueueDeclareOptions {
                    passive: true,
                    ..QueueDeclareOptions::default()
                };
                let found = channel
                    .queue_declare(queue.as_str().into(), passive, FieldTable::default())
                    .await?;
                let _ = reply.send(Ok(found.message_count().into()));
                channel.close(200, "".into()).await?;
            }
            Order::Purge(queue, reply) => {
                self.declare(shared, queue).await?;
                let dropped = self
                    .channel
                    .queue_purge(queue.as_str().into(), QueuePurgeOptions::default())
                    .await?;
                let dropped = u64::from(dropped) + self.drop_rooms(queue).await?;
                let _ = reply.send(Ok(dropped));
            }
        }
        Ok(())
    }

    /// Drops what waits for its time, and the queues where it does: who needs one makes it again.
    async fn drop_rooms(&mut self, queue: &str) -> lapin::Result<u64> {
        let mut dropped = 0;
        for room in queues::rooms(queue) {
            // It need not be there.
            let options = QueueDeleteOptions::default();
            dropped += u64::from(self.channel.queue_delete(room.as_str().into(), options).await?);
            self.declared.remove(&room);
        }
        Ok(dropped)
    }
}
