//! The sockets of the exchange: addresses, requests, and files that travel.

use super::SharedError;
use super::exchange::Address;
use super::header::Id;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen as listen_on, recvmsg, sendmsg, socket_with,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// Kinds of requests: the file of a segment, and word that it is not needed.
pub(super) const FETCH: u8 = 1;
pub(super) const ARRIVED: u8 = 2;

/// How long another process may take to hand over a file. It has nothing to do for that but to run.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest name: addresses of sockets have 108 bytes.
const LONGEST_NAME: usize = 64;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// What comes with a file, and without one.
const HERE: [u8; 1] = *b"+";
const UNKNOWN: [u8; 1] = *b"-";

pub(super) fn process_address(address: Address) -> String {
    let user = rustix::process::geteuid().as_raw();
    format!("par-process/{user}/p/{}-{:016x}", address.pid, address.nonce)
}

pub(super) fn name_address(name: &str) -> Result<String, SharedError> {
    let refused = |reason| SharedError::Name {
        name: name.to_owned(),
        reason,
    };
    match name.len() {
        0 => Err(refused("it is empty")),
        1..=LONGEST_NAME if name.chars().any(char::is_control) => {
            Err(refused("it has characters that cannot be seen"))
        }
        1..=LONGEST_NAME => {
            let user = rustix::process::geteuid().as_raw();
            Ok(format!("par-process/{user}/n/{name}"))
        }
        _ => Err(refused("it is longer than 64 bytes")),
    }
}

fn socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | flags,
        None,
    )
}

pub(super) fn listen(address: &str) -> Result<OwnedFd, Errno> {
    let socket = socket(SocketFlags::NONBLOCK)?;
    bind(&socket, &SocketAddrUnix::new_abstract_name(address.as_bytes())?)?;
    listen_on(&socket, BACKLOG)?;
    Ok(socket)
}

/// Somebody at the door; `None` if it is nobody, or nobody of this user.
pub(super) fn accept(door: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    match accept_with(door, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(peer) => Ok(ours(&peer).then_some(peer)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the other side is a process of the same user.
fn ours(peer: &OwnedFd) -> bool {
    socket_peercred(peer).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

fn call(address: &str) -> Result<OwnedFd, Errno> {
    let socket = socket(SocketFlags::empty())?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(address.as_bytes())?)?;
    if ours(&socket) {
        Ok(socket)
    } else {
        Err(Errno::PERM)
    }
}

fn request(address: Address, kind: u8, id: Id) -> Result<OwnedFd, Errno> {
    let socket = call(&process_address(address))?;
    let mut bytes = [kind; 17];
    bytes[1..].copy_from_slice(bytemuck::bytes_of(&id));
    rustix::net::send(&socket, &bytes, SendFlags::NOSIGNAL)?;
    Ok(socket)
}

/// The request that has come, if it is one.
pub(super) fn read_request(peer: &OwnedFd) -> Option<(u8, Id)> {
    let mut bytes = [0; 18];
    let (length, _) = rustix::net::recv(peer, &mut bytes[..], RecvFlags::empty()).ok()?;
    let kind = bytes[0];
    (length == 17 && [FETCH, ARRIVED].contains(&kind))
        .then(|| (kind, bytemuck::pod_read_unaligned(&bytes[1..17])))
}

/// Answers with a file, or that there is none.
pub(super) fn hand_over(peer: &OwnedFd, file: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let files: Vec<_> = file.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let carrier = if files.is_empty() { UNKNOWN } else { HERE };
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(peer, &[IoSlice::new(&carrier)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The file that comes; `None` if there is none.
fn receive(socket: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut carrier = [0];
    let got = loop {
        let got = recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut carrier)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        if !matches!(got, Err(Errno::INTR)) {
            break got?;
        }
    };
    if got.bytes == 0 {
        return Err(Errno::CONNRESET);
    }
    let mut files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    match (carrier, files.next().and_then(|mut files| files.next())) {
        (HERE, Some(file)) => Ok(Some(file)),
        (UNKNOWN, None) => Ok(None),
        // A file that found no place in this process is left out by the system.
        _ => Err(Errno::MFILE),
    }
}

/// Asks another process for a segment.
pub(super) fn fetch(address: Address, id: Id) -> Result<OwnedFd, SharedError> {
    let gone = |reason| Err(SharedError::Gone { reason });
    let pid = address.pid;
    match request(address, FETCH, id).and_then(|socket| receive(&socket)) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => gone(format!("process {pid} has let go of it")),
        Err(Errno::CONNREFUSED | Errno::CONNRESET | Errno::PIPE) => gone(format!("process {pid} has ended")),
        Err(Errno::AGAIN) => gone(format!("process {pid} does not answer within {PATIENCE:?}")),
        Err(Errno::PERM) => gone(format!("process {pid} is of another user")),
        Err(error) => Err(SharedError::system("fetch shared memory")(error)),
    }
}

/// Tells another process that its token has arrived. Should it be gone, it keeps nothing.
pub(super) fn tell_arrived(address: Address, id: Id) {
    let _ = request(address, ARRIVED, id);
}

/// Asks for what is published under a name.
pub(super) fn fetch_name(name: &str) -> Result<OwnedFd, SharedError> {
    match call(&name_address(name)?).and_then(|socket| receive(&socket)) {
        Ok(Some(file)) => Ok(file),
        Ok(None) | Err(Errno::CONNREFUSED | Errno::CONNRESET | Errno::PERM) => {
            Err(SharedError::NoSuchName(name.to_owned()))
        }
        Err(Errno::AGAIN) => Err(SharedError::Gone {
            reason: format!("the publisher of {name:?} does not answer within {PATIENCE:?}"),
        }),
        Err(error) => Err(SharedError::system("fetch shared memory")(error)),
    }
}
