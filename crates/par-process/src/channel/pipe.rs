//! Pipes: two ends, each in whatever process it was sent to.

use super::error::{RecvError, SendError};
use super::packet::{self, Unsent};
use super::transit;
use par_core::wire::{self, MAX_FRAME, WireError};
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::de::{DeserializeOwned, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Kinds of messages.
const VALUE: u8 = 1;
const BYTES: u8 = 2;

/// Makes pipes, in the two forms that there are.
///
/// A pipe is bounded: what is sent waits in the system's memory until it is received, about 200 KiB of it and at most a few hundred
/// messages; past that, sending waits. It ends when the last end on a side is gone, whichever processes held it and
/// however they ended.
#[doc(alias = "multiprocessing.Pipe")]
#[derive(Debug)]
pub struct Pipe(());

impl Pipe {
    /// Two ends that both send and receive.
    ///
    /// # Errors
    /// What the system says if it has no more files for this process.
    ///
    /// ```
    /// use par_process::{Connection, Pipe, Process};
    ///
    /// let (near, far) = Pipe::duplex()?;
    /// let child = Process::of_fn(far, |far: Connection| {
    ///     while let Ok(x) = far.recv::<u64>() {
    ///         far.send(x * x).expect("the parent waits for it");
    ///     }
    /// })
    /// .start()?;
    /// near.send(7u64)?;
    /// assert_eq!(near.recv::<u64>()?, 49);
    /// drop(near); // the end of file, for the child
    /// assert_eq!(child.join()?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn duplex() -> io::Result<(Connection, Connection)> {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Connection::of(one), Connection::of(other)))
    }

    /// An end that receives and one that sends.
    ///
    /// # Errors
    /// What the system says if it has no more files for this process.
    ///
    /// ```
    /// use par_process::{Pipe, RecvError};
    ///
    /// let (receiver, sender) = Pipe::one_way()?;
    /// sender.send("hello")?;
    /// assert_eq!(receiver.recv::<String>()?, "hello");
    /// drop(sender);
    /// assert!(matches!(receiver.recv::<String>(), Err(RecvError::Closed)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "Pipe(duplex=False)")]
    pub fn one_way() -> io::Result<(Receiver, Sender)> {
        let (one, other) = Pipe::duplex()?;
        Ok((Receiver(one), Sender(other)))
    }
}

/// An end of a pipe, which sends and receives values and raw bytes.
///
/// An end is itself a value while it is being sent through a pipe or given to a [`Process`](crate::Process); encoding it
/// elsewhere is an error. Who receives one holds the same end. Several threads and processes may use an end at once: each
/// message is received whole, by one of them.
#[derive(Debug)]
#[doc(alias = "multiprocessing.connection.Connection")]
pub struct Connection {
    socket: OwnedFd,
    longest: u64,
}

impl Connection {
    fn of(socket: OwnedFd) -> Self {
        Connection {
            socket,
            longest: MAX_FRAME,
        }
    }

    /// Bounds what this end sends and receives: the longest message, in bytes as encoded. 256 MiB unless set.
    pub fn set_longest(&mut self, bytes: u64) {
        self.longest = bytes;
    }

    /// Sends a value; waits while the pipe is full.
    ///
    /// # Errors
    /// [`SendError`], with the value: nobody is left to receive it, it does not encode, or the system refused it.
    pub fn send<T: Serialize>(&self, value: T) -> Result<(), SendError<T>> {
        self.send_until(value, None)
    }

    /// Sends a value, if there is room before the timeout is over.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::Full`].
    pub fn send_timeout<T: Serialize>(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.send_until(value, Instant::now().checked_add(timeout))
    }

    /// Sends a value, if there is room now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::Full`].
    pub fn try_send<T: Serialize>(&self, value: T) -> Result<(), SendError<T>> {
        self.send_until(value, Some(Instant::now()))
    }

    fn send_until<T: Serialize>(&self, value: T, until: Option<Instant>) -> Result<(), SendError<T>> {
        let (bytes, files) = transit::lend(|| wire::to_bytes(&value));
        let sent = match bytes {
            Ok(bytes) => self.send_packet(VALUE, &bytes, &files, until),
            Err(error) => Err(SendError::Encode((), error)),
        };
        sent.map_err(|error| error.map(|()| value))
    }

    fn send_packet(
        &self,
        kind: u8,
        bytes: &[u8],
        files: &[OwnedFd],
        until: Option<Instant>,
    ) -> Result<(), SendError<()>> {
        if bytes.len() as u64 > self.longest {
            let error = WireError::TooLarge {
                claimed: bytes.len() as u64,
                allowed: self.longest,
            };
            return Err(SendError::Encode((), error));
        }
        packet::send(self.as_fd(), kind, bytes, files, until).map_err(|unsent| match unsent {
            Unsent::Closed => SendError::Closed(()),
            Unsent::Full => SendError::Full(()),
            Unsent::Io(error) => SendError::Io((), error),
        })
    }

    /// Receives a value; waits until one comes.
    ///
    /// # Errors
    /// [`RecvError::Closed`] at the end of file, and what was wrong with a message that came.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        self.recv_until(None)
    }

    /// Receives a value, if one comes before the timeout is over.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::Empty`].
    pub fn recv_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// Receives a value, if one is there now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::Empty`].
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        self.recv_until(Some(Instant::now()))
    }

    fn recv_until<T: DeserializeOwned>(&self, until: Option<Instant>) -> Result<T, RecvError> {
        packet::receive(self.as_fd(), self.longest, until, |kind, payload, files| {
            expect(kind, VALUE)?;
            Ok(transit::with(files, || wire::from_bytes(payload))?)
        })
    }

    /// Sends raw bytes, as one message; waits while the pipe is full.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.send_packet(BYTES, bytes, &[], None)
    }

    /// Sends raw bytes, if there is room before the timeout is over.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::Full`].
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), SendError<()>> {
        self.send_packet(BYTES, bytes, &[], Instant::now().checked_add(timeout))
    }

    /// Receives a message of raw bytes; waits until one comes.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(None)
    }

    /// Receives a message of raw bytes, if one comes before the timeout is over.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::Empty`].
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Instant::now().checked_add(timeout))
    }

    fn recv_bytes_until(&self, until: Option<Instant>) -> Result<Vec<u8>, RecvError> {
        packet::receive(self.as_fd(), self.longest, until, |kind, payload, _| {
            expect(kind, BYTES)?;
            Ok(payload.to_vec())
        })
    }

    /// Waits until there is something to receive, the end of file included, at most for `timeout`; false if there is nothing.
    ///
    /// # Errors
    /// What the system says if it cannot wait.
    pub fn poll(&self, timeout: Duration) -> io::Result<bool> {
        packet::ready(self.as_fd(), PollFlags::IN, Instant::now().checked_add(timeout))
    }

    /// The same end once more.
    ///
    /// # Errors
    /// What the system says if it has no more files for this process.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Connection {
            socket: self.socket.try_clone()?,
            longest: self.longest,
        })
    }
}

fn expect(came: u8, expected: u8) -> Result<(), RecvError> {
    let name = |kind| match kind {
        VALUE => Some("a value"),
        BYTES => Some("raw bytes"),
        _ => None,
    };
    match (name(came), name(expected)) {
        _ if came == expected => Ok(()),
        (Some(came), Some(expected)) => Err(RecvError::Kind { came, expected }),
        _ => Err(WireError::Malformed("a message of an unknown kind").into()),
    }
}

impl AsFd for Connection {
    /// The socket, for `poll` and its like. Readable when there is something to receive.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Serialize for Connection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        transit::serialize(self.as_fd(), "a Connection", serializer)
    }
}

impl<'de> Deserialize<'de> for Connection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        transit::deserialize("a Connection", deserializer).map(Connection::of)
    }
}

/// The end of a one-way pipe that receives. As a [`Connection`], an end is a value while it travels.
#[derive(Debug, Serialize, Deserialize)]
pub struct Receiver(Connection);

/// The end of a one-way pipe that sends. As a [`Connection`], an end is a value while it travels.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sender(Connection);

/// What an end of a one-way pipe has of the methods of [`Connection`].
macro_rules! half {
    ($end:ident { $($(#[$attribute:meta])* fn $name:ident$(<$T:ident: $bound:path>)?($($argument:ident: $type:ty),*) -> $result:ty;)* }) => {
        impl $end {
            $(
                #[doc = concat!("As [`Connection::", stringify!($name), "`].")]
                ///
                $(#[$attribute])*
                pub fn $name$(<$T: $bound>)?(&self, $($argument: $type),*) -> $result {
                    self.0.$name($($argument),*)
                }
            )*

            /// As [`Connection::set_longest`].
            pub fn set_longest(&mut self, bytes: u64) {
                self.0.set_longest(bytes);
            }

            /// The same end once more.
            ///
            /// # Errors
            /// What the system says if it has no more files for this process.
            pub fn try_clone(&self) -> io::Result<Self> {
                self.0.try_clone().map(Self)
            }
        }

        impl AsFd for $end {
            /// The socket, for `poll` and its like.
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
    };
}

half!(Receiver {
    /// # Errors
    /// As there.
    fn recv<T: DeserializeOwned>() -> Result<T, RecvError>;
    /// # Errors
    /// As there.
    fn recv_timeout<T: DeserializeOwned>(timeout: Duration) -> Result<T, RecvError>;
    /// # Errors
    /// As there.
    fn try_recv<T: DeserializeOwned>() -> Result<T, RecvError>;
    /// # Errors
    /// As there.
    fn recv_bytes() -> Result<Vec<u8>, RecvError>;
    /// # Errors
    /// As there.
    fn recv_bytes_timeout(timeout: Duration) -> Result<Vec<u8>, RecvError>;
    /// # Errors
    /// As there.
    fn poll(timeout: Duration) -> io::Result<bool>;
});

half!(Sender {
    /// # Errors
    /// As there.
    fn send<T: Serialize>(value: T) -> Result<(), SendError<T>>;
    /// # Errors
    /// As there.
    fn send_timeout<T: Serialize>(value: T, timeout: Duration) -> Result<(), SendError<T>>;
    /// # Errors
    /// As there.
    fn try_send<T: Serialize>(value: T) -> Result<(), SendError<T>>;
    /// # Errors
    /// As there.
    fn send_bytes(bytes: &[u8]) -> Result<(), SendError<()>>;
    /// # Errors
    /// As there.
    fn send_bytes_timeout(bytes: &[u8], timeout: Duration) -> Result<(), SendError<()>>;
});
