//! Channels of crossbeam-channel among the things that a [`Select`] waits for.
//!
//! ```
//! use par_sync::{Queue, Select};
//!
//! let (sender, receiver) = crossbeam_channel::unbounded();
//! let queue: Queue<u32> = Queue::new(0);
//! sender.send("word")?;
//! let got = Select::new()
//!     .get(&queue, |number| number.map_or(0, |number| number as usize))
//!     .recv(&receiver, |word| word.map_or(0, str::len))
//!     .wait();
//! assert_eq!(got, 4);
//! # Ok::<(), crossbeam_channel::SendError<&str>>(())
//! ```

use super::select::Branch;
use super::{Poke, Select};
use crossbeam_channel::{Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError};

struct Recv<'a, T, F> {
    receiver: &'a Receiver<T>,
    then: Option<F>,
}

impl<T, R, F: FnOnce(Result<T, RecvError>) -> R> Branch<R> for Recv<'_, T, F> {
    fn attempt(&mut self) -> Option<R> {
        let got = match self.receiver.try_recv() {
            Ok(item) => Ok(item),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(RecvError),
        };
        self.then.take().map(|then| then(got))
    }

    fn watch(&self, _: &Poke) {}

    fn unwatch(&self, _: &Poke) {}

    fn enroll<'s>(&'s self, sleep: &mut crossbeam_channel::Select<'s>) {
        sleep.recv(self.receiver);
    }
}

struct Send<'a, T, F> {
    sender: &'a Sender<T>,
    item: Option<T>,
    then: Option<F>,
}

impl<T, R, F: FnOnce(Result<(), SendError<T>>) -> R> Branch<R> for Send<'_, T, F> {
    fn attempt(&mut self) -> Option<R> {
        let sent = match self.sender.try_send(self.item.take()?) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(item)) => {
                self.item = Some(item);
                return None;
            }
            Err(TrySendError::Disconnected(item)) => Err(SendError(item)),
        };
        self.then.take().map(|then| then(sent))
    }

    fn watch(&self, _: &Poke) {}

    fn unwatch(&self, _: &Poke) {}

    fn enroll<'s>(&'s self, sleep: &mut crossbeam_channel::Select<'s>) {
        sleep.send(self.sender);
    }
}

impl<'a, R> Select<'a, R> {
    /// Receives a message; or hears that nobody can send one any more.
    pub fn recv<T: 'a>(
        self,
        receiver: &'a Receiver<T>,
        then: impl FnOnce(Result<T, RecvError>) -> R + 'a,
    ) -> Self {
        let then = Some(then);
        self.branch(Recv { receiver, then })
    }

    /// Sends a message; or hears that nobody can receive it any more. If another branch is done, the message is dropped with the select.
    pub fn send<T: 'a>(
        self,
        sender: &'a Sender<T>,
        item: T,
        then: impl FnOnce(Result<(), SendError<T>>) -> R + 'a,
    ) -> Self {
        let (item, then) = (Some(item), Some(then));
        self.branch(Send { sender, item, then })
    }
}
