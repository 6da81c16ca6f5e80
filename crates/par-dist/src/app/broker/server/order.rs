//! What others want done of the thread that speaks to a RabbitMQ server, and what is sent and not confirmed yet.

use super::confirm::Confirm;
use super::later::Passing;
use super::{Reply, Shared};
use crate::BrokerError;
use crate::app::broker::{Outcome, Outgoing, Revocation, Tag};
use crate::app::outcome::no_result;
use lapin::Confirmation;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

/// What others want done.
pub(super) enum Order {
    /// With who waits until they are there, if somebody does.
    Publish(Vec<Outgoing>, Option<Reply<()>>),
    /// A result, and then what is acknowledged.
    Conclude(Option<Answer>, Vec<Tag>),
    /// A task on its way from one queue where it waits to the next.
    Pass(Box<Passing>),
    Consume {
        queues: Vec<String>,
        prefetch: u16,
        reply: Reply<()>,
    },
    Leave(Vec<String>),
    Release(Vec<Tag>),
    Reject(Tag),
    Revoke(Revocation, Reply<()>),
    /// Tells when all before has arrived.
    Flush(Reply<()>),
    Count(String, Reply<u64>),
    Purge(String, Reply<u64>),
}

/// A result, for the queue of who called.
pub(super) struct Answer {
    pub(super) to: String,
    pub(super) id: String,
    pub(super) document: Vec<u8>,
}

impl Answer {
    /// None where nobody called.
    pub(super) fn of(outcome: Outcome) -> Option<Self> {
        Some(Answer {
            to: outcome.to?,
            id: outcome.id,
            document: outcome.document.to_string().into_bytes(),
        })
    }
}

impl Order {
    /// Tells who asked that it cannot be done.
    pub(super) fn fail(self, shared: &Shared, error: &lapin::Error) {
        let failed = BrokerError::Failed {
            broker: shared.url.clone(),
            reason: error.to_string(),
        };
        // Who asked may have given up.
        let _ = match self {
            Order::Publish(tasks, reply) => {
                answer(&tasks, reply.as_ref(), Err(failed));
                true
            }
            Order::Consume { reply, .. } | Order::Revoke(_, reply) | Order::Flush(reply) => {
                reply.send(Err(failed)).is_ok()
            }
            Order::Count(_, reply) | Order::Purge(_, reply) => reply.send(Err(failed)).is_ok(),
            Order::Conclude(..) | Order::Pass(_) | Order::Leave(_) | Order::Release(_) | Order::Reject(_) => {
                false
            }
        };
    }

    /// Refuses it if it has a task whose body is longer than the server takes, and makes a failure of a result that is: whoever sends such a one
    /// loses the channel. Whether it is still to be done.
    pub(super) fn fit(&mut self, shared: &Shared, longest: usize) -> bool {
        match self {
            Order::Publish(tasks, reply) => {
                let lengths = tasks.iter().map(|task| task.message.write_body().len());
                let Some(length) = lengths.max().filter(|length| *length > longest) else {
                    return true;
                };
                let too_long = BrokerError::TooLong {
                    broker: shared.url.clone(),
                    reason: format!(
                        "a task has {length} bytes, and the server takes {longest} (`max_message_size`)"
                    ),
                };
                answer(tasks, reply.as_ref(), Err(too_long));
                false
            }
            Order::Conclude(Some(answer), _) if answer.document.len() > longest => {
                let error = BrokerError::TooLong {
                    broker: shared.url.clone(),
                    reason: format!(
                        "a result has {} bytes, and the server takes {longest} (`max_message_size`)",
                        answer.document.len()
                    ),
                };
                tracing::error!(id = answer.id, %error, "the result cannot be kept");
                answer.document = no_result(&answer.id, &error).to_string().into_bytes();
                true
            }
            _ => true,
        }
    }
}

/// Says what came of sending tasks: to who waits for it, or else in the log.
fn answer(tasks: &[Outgoing], reply: Option<&Reply<()>>, sent: Result<(), BrokerError>) {
    match (reply, sent) {
        // Who asked may have given up.
        (Some(reply), sent) => drop(reply.send(sent)),
        (None, Ok(())) => {}
        (None, Err(error)) => {
            for task in tasks {
                let headers = &task.message.headers;
                tracing::error!(id = headers.id, task = headers.task, queue = task.queue, %error, "a task was not sent");
            }
        }
    }
}

/// Whether the server said that this user may not do it.
pub(super) fn is_forbidden(error: &lapin::Error) -> bool {
    const ACCESS_REFUSED: u16 = 403;
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error) if error.get_id() == ACCESS_REFUSED)
}

/// How long a message may be, if that is what an error of the server says.
pub(super) fn longest(error: &str) -> Option<usize> {
    let (_, said) = error.split_once("message size ")?;
    let digits = |text: &str| {
        text.trim_end_matches(|c: char| !c.is_ascii_digit())
            .rsplit(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    let (_, limit) = said.split_once("larger than")?;
    digits(limit)
}

/// An order whose messages are sent, and those that are yet to be confirmed; with its place, where it may be sent once more.
pub(super) struct Sent {
    pub(super) order: Order,
    pub(super) confirms: VecDeque<(Option<usize>, Confirm)>,
    /// What no queue took.
    pub(super) unrouted: Vec<usize>,
    pub(super) refused: bool,
}

/// What has passed, by which lane, and whether it has arrived.
pub(super) type Passed = Vec<(i64, u64, bool)>;

/// Waits until the server confirms something, and takes all that it has confirmed.
pub(super) async fn confirmed(
    shared: &Shared,
    sent: &mut VecDeque<Sent>,
    passed: &mut Passed,
) -> lapin::Result<()> {
    std::future::poll_fn(|cx| poll_confirmed(shared, sent, passed, cx)).await
}

/// Takes what the server has confirmed by now.
pub(super) fn take_confirmed(
    shared: &Shared,
    sent: &mut VecDeque<Sent>,
    passed: &mut Passed,
) -> lapin::Result<()> {
    match poll_confirmed(shared, sent, passed, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(()),
    }
}

fn poll_confirmed(
    shared: &Shared,
    sent: &mut VecDeque<Sent>,
    passed: &mut Passed,
    cx: &mut Context<'_>,
) -> Poll<lapin::Result<()>> {
    let mut any = false;
    while let Some(first) = sent.front_mut() {
        while let Some((number, confirm)) = first.confirms.front_mut() {
            match confirm.poll(cx) {
                Poll::Pending if any => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(Confirmation::Ack(None))) => {}
                Poll::Ready(Ok(Confirmation::Ack(Some(_)))) if number.is_some() => {
                    first.unrouted.extend(*number);
                }
                Poll::Ready(Ok(_)) => first.refused = true,
            }
            first.confirms.pop_front();
            any = true;
        }
        if !first.unrouted.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if let Some(done) = sent.pop_front() {
            done.tell(shared, passed);
        }
        any = true;
    }
    Poll::Ready(Ok(()))
}

impl Sent {
    pub(super) fn new(order: Order, confirms: VecDeque<(Option<usize>, Confirm)>) -> Self {
        Sent {
            order,
            confirms,
            unrouted: Vec::new(),
            refused: false,
        }
    }

    /// Whether somebody waits until it is confirmed.
    pub(super) fn is_waited_for(&self) -> bool {
        matches!(self.order, Order::Publish(_, Some(_)) | Order::Pass(_))
    }

    fn tell(self, shared: &Shared, passed: &mut Passed) {
        if let Order::Pass(passing) = &self.order {
            let (lane, tag) = passing.came();
            passed.push((lane, tag, !self.refused));
        }
        if let Order::Publish(tasks, reply) = self.order {
            let full = BrokerError::Full {
                broker: shared.url.clone(),
                reason: "the server refused the task, as a policy for full queues makes it do".to_owned(),
            };
            answer(
                &tasks,
                reply.as_ref(),
                if self.refused { Err(full) } else { Ok(()) },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_that_a_server_takes_is_read_from_its_error() {
        for (error, expected) in [
            (
                "PRECONDITION_FAILED - message size 209715270 is larger than configured max size 134217728",
                Some(134_217_728),
            ),
            ("message size 600 is larger than max size 512\"), ...", Some(512)),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue 'a'",
                None,
            ),
            ("message size 5 is larger than it may be", None),
        ] {
            assert_eq!(longest(error), expected, "{error}");
        }
    }
}
