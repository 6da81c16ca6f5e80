//! Open files that travel over a socket, from a pool to its worker or from a parent to its child.

use crate::channel::transit::MOST_FILES;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The byte that carries the files.
const CARRIER: [u8; 1] = *b"F";

/// Sends two files, before anything else.
pub(crate) fn send_files(socket: &UnixStream, files: [BorrowedFd<'_>; 2]) -> io::Result<()> {
    send_some(socket, &files)
}

/// Receives the two files; they are not inherited by what this process starts.
pub(crate) fn receive_files(socket: &UnixStream) -> io::Result<[OwnedFd; 2]> {
    receive_some(socket, 2)?
        .try_into()
        .map_err(|_| io::Error::other("two files were expected"))
}

/// Sends some files, at most [`MOST_FILES`], with a byte of their own.
pub(crate) fn send_some(socket: &UnixStream, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("more files than a message takes"));
    }
    sendmsg(
        socket,
        &[IoSlice::new(&CARRIER)],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// Receives so many files; they are not inherited by what this process starts.
pub(crate) fn receive_some(socket: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut carrier = [0];
    let got = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut carrier)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let files: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    if carrier == CARRIER && files.len() == count {
        return Ok(files);
    }
    let text = format!("{count} file(s) were expected, {} came", files.len());
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}
