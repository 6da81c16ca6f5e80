//! Where a manager listens, and the sockets of the two kinds of places.

use rustix::net::{RecvFlags, recv};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::str::FromStr;
use std::time::Duration;

/// How long a connection over TCP may take to be made.
const REACH: Duration = Duration::from_secs(10);

/// Where a manager listens. As a text, `unix:NAME` or `tcp:IP:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Address {
    /// A Unix socket of this machine, whose name is in no folder and goes with the socket.
    Unix(String),
    /// A TCP port.
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(name) => write!(f, "unix:{name}"),
            Address::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// The text is no address of a manager.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a manager; expected unix:NAME or tcp:IP:PORT")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.split_once(':') {
            Some(("unix", name)) if !name.is_empty() => Some(Address::Unix(name.to_owned())),
            Some(("tcp", address)) => address.parse().ok().map(Address::Tcp),
            _ => None,
        }
        .ok_or_else(|| AddressError(text.to_owned()))
    }
}

fn abstract_name(name: &str) -> io::Result<UnixAddr> {
    UnixAddr::from_abstract_name(name)
}

/// A connection.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    pub(super) fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(name) => UnixStream::connect_addr(&abstract_name(name)?).map(Stream::Unix),
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, REACH)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    /// Bounds each read and write; `None` is no bound.
    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Stream::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }

    /// Whether the other side has closed it, or died.
    pub(super) fn is_gone(&self) -> bool {
        match recv(self, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, came)) => came == 0,
            Err(error) => error != rustix::io::Errno::AGAIN && error != rustix::io::Errno::INTR,
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&*stream).read(buffer),
            Stream::Tcp(stream) => (&*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&*stream).write(buffer),
            Stream::Tcp(stream) => (&*stream).write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// A socket that listens.
pub(super) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens on a Unix socket with a new name.
    pub(super) fn unix(number: u64) -> io::Result<(Self, Address)> {
        let name = format!("par-process-{}-{number:016x}", std::process::id());
        let listener = UnixListener::bind_addr(&abstract_name(&name)?)?;
        Ok((Listener::Unix(listener), Address::Unix(name)))
    }

    pub(super) fn tcp(address: SocketAddr) -> io::Result<(Self, Address)> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        Ok((Listener::Tcp(listener), Address::Tcp(address)))
    }

    /// The socket, for another process.
    pub(super) fn into_file(self) -> OwnedFd {
        match self {
            Listener::Unix(listener) => listener.into(),
            Listener::Tcp(listener) => listener.into(),
        }
    }

    /// The socket for that address, as it came from another process.
    pub(super) fn of_file(file: OwnedFd, address: &Address) -> Self {
        match address {
            Address::Unix(_) => Listener::Unix(file.into()),
            Address::Tcp(_) => Listener::Tcp(file.into()),
        }
    }

    pub(super) fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_texts() {
        for text in ["unix:name", "tcp:127.0.0.1:80", "tcp:[::1]:80"] {
            let address: Address = text.parse().expect("an address");
            assert_eq!(address.to_string(), text);
        }
        for text in ["", "unix:", "tcp:localhost", "tcp:1.2.3.4", "udp:1.2.3.4:5"] {
            let error = text.parse::<Address>().expect_err("no address").to_string();
            assert!(error.contains("expected unix:NAME or tcp:IP:PORT"), "{error}");
        }
    }
}
