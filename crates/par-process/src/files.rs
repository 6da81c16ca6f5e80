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

/// Sends some files, at most [`MOST_FILES`], with a byte of their own.
pub(crate) fn send_files(socket: &UnixStream, files: &[BorrowedFd<'_>]) -> io::Result<()> {
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
    let files = receive(socket)?;
    if files.len() == count {
        return Ok(files);
    }
    let text = format!("{count} file(s) were expected, {} came", files.len());
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Receives files, at least `N`, and what comes beside them.
pub(crate) fn receive_files<const N: usize>(socket: &UnixStream) -> io::Result<([OwnedFd; N], Vec<OwnedFd>)> {
    let mut files = receive(socket)?;
    let more = files.split_off(N.min(files.len()));
    let files = files.try_into().map_err(|files: Vec<OwnedFd>| {
        let text = format!("{N} files were expected first, {} came", files.len());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok((files, more))
}

/// Receives the files that come with one carrier.
fn receive(socket: &UnixStream) -> io::Result<Vec<OwnedFd>> {
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
    if carrier == CARRIER {
        return Ok(files);
    }
    let text = "files were expected, and something else came";
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}
