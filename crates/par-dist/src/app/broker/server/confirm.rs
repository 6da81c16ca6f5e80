//! What is said to a RabbitMQ server without waiting until it is written: so that much goes out together, and nobody is woken for each word.

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Writing = Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>>>>;

/// A message on its way, which is to be confirmed.
pub(super) enum Confirm {
    Writing(Writing),
    Written(PublisherConfirm),
}

impl Confirm {
    /// Puts a message in the line of what is written.
    pub(super) fn of(
        channel: &Rc<Channel>,
        queue: &str,
        options: BasicPublishOptions,
        body: Vec<u8>,
        properties: BasicProperties,
    ) -> lapin::Result<Self> {
        let (channel, queue) = (Rc::clone(channel), queue.into());
        let writing = async move {
            let sent = channel.basic_publish("".into(), queue, options, &body, properties);
            sent.await
        };
        let mut writing: Writing = Box::pin(writing);
        // With the first look it is in the line.
        match writing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(written) => written.map(Confirm::Written),
            Poll::Pending => Ok(Confirm::Writing(writing)),
        }
    }

    /// Waits until it is written, and so all before it.
    pub(super) async fn written(&mut self) -> lapin::Result<()> {
        if let Confirm::Writing(writing) = self {
            *self = Confirm::Written(writing.as_mut().await?);
        }
        Ok(())
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<lapin::Result<Confirmation>> {
        if let Confirm::Writing(writing) = self {
            match writing.as_mut().poll(cx) {
                Poll::Ready(Ok(written)) => *self = Confirm::Written(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        match self {
            Confirm::Written(confirm) => Pin::new(confirm).poll(cx),
            Confirm::Writing(_) => Poll::Pending,
        }
    }
}

/// Puts what has no answer in the line of what is written. If it cannot be, the connection says so.
pub(super) fn say(word: impl Future<Output = lapin::Result<()>>) -> lapin::Result<()> {
    match std::pin::pin!(word).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(said) => said,
        Poll::Pending => Ok(()),
    }
}
