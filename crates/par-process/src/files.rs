//! Open files that travel over a socket, from a pool to its worker.

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

/// The most files that are sent.
const MOST: usize = 3;

/// Sends files, before anything else.
pub(crate) fn send_files(socket: &UnixStream, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("the files do not fit into a message"));
    }
    sendmsg(
        socket,
        &[IoSlice::new(&CARRIER)],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// Receives files, at least `N`, and what comes beside them; they are not inherited by what this process starts.
pub(crate) fn receive_files<const N: usize>(socket: &UnixStream) -> io::Result<([OwnedFd; N], Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
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
    let mut files: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    let more = files.split_off(N.min(files.len()));
    files
        .try_into()
        .ok()
        .filter(|_| carrier == CARRIER)
        .map(|files| (files, more))
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{N} files were expected first"),
            )
        })
}
