//! One message as one datagram of a SEQPACKET socket, with files beside it.
//!
//! 1. A message is one datagram: a frame header of `par_core::wire`, then the payload. The system delivers a datagram
//!    whole or not at all, to one receiver. So several processes may send and receive at one end, and one that dies in the
//!    middle of either leaves no half of a message.
//! 2. What does not fit into a datagram goes into a memory file that travels with it, as the last of its files. The
//!    datagram is then as long as can be, so that long messages fill the socket's buffer as well: a pipe holds a few
//!    of them, not hundreds.
//! 3. A header is checked before anything is allocated; the rest in a memory file must be there before it is read, and is
//!    copied, never mapped, as its sender could cut it short.
//! 4. An empty datagram is never sent: receiving no byte is the end of file.

use super::error::RecvError;
use super::transit::MOST_FILES;
use par_core::wire::{FRAME_HEADER, FrameHeader, WireError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// The longest datagram.
const DATAGRAM: usize = 64 << 10;
/// The most of a payload that is in the datagram.
pub(super) const INLINE: usize = DATAGRAM - FRAME_HEADER;
/// A kind with this bit says that the rest is in a memory file.
const REST: u8 = 0x80;
/// Memory for the rest grows by this much as it is read.
const STEP: usize = 1 << 20;

/// Why nothing was sent.
pub(super) enum Unsent {
    Closed,
    Full,
    Io(io::Error),
}

/// Sends a message; waits for room until the deadline, if there is one.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    kind: u8,
    payload: &[u8],
    files: &[OwnedFd],
    until: Option<Instant>,
) -> Result<(), Unsent> {
    let (inline, rest) = payload.split_at(payload.len().min(INLINE));
    let rest_file = if rest.is_empty() {
        None
    } else {
        Some(memory_file(rest).map_err(Unsent::Io)?)
    };
    let header = FrameHeader {
        kind: if rest.is_empty() { kind } else { kind | REST },
        length: payload.len() as u64,
    };
    let header = header.to_bytes();
    let slices = [IoSlice::new(&header), IoSlice::new(inline)];
    let files: Vec<_> = files.iter().chain(&rest_file).map(OwnedFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES + 1))];
    let mut flags = SendFlags::NOSIGNAL;
    if until.is_some() {
        flags |= SendFlags::DONTWAIT;
    }
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(Unsent::Io(io::Error::other("more files than a message takes")));
        }
        match sendmsg(socket, &slices, &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !ready(socket, PollFlags::OUT, until).map_err(Unsent::Io)? {
                    return Err(Unsent::Full);
                }
            }
            Err(Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED | Errno::NOTCONN) => {
                return Err(Unsent::Closed);
            }
            Err(error) => return Err(Unsent::Io(error.into())),
        }
    }
}

fn memory_file(rest: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("par-process-message", MemfdFlags::CLOEXEC)?);
    file.write_all(rest)?;
    Ok(file.into())
}

thread_local! {
    /// Where datagrams of this thread arrive.
    static ARRIVAL: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Receives a message of at most `longest` bytes, waiting until the deadline, if there is one, and reads it.
pub(super) fn receive<R>(
    socket: BorrowedFd<'_>,
    longest: u64,
    until: Option<Instant>,
    read: impl FnOnce(u8, &[u8], Vec<OwnedFd>) -> Result<R, RecvError>,
) -> Result<R, RecvError> {
    let mut datagram = ARRIVAL.take();
    datagram.resize(DATAGRAM, 0);
    let result = receive_into(socket, &mut datagram, until).and_then(|(length, files)| {
        let (header, inline) = split(&datagram[..length], longest)?;
        take(header, inline, files, read)
    });
    ARRIVAL.set(datagram);
    result
}

/// One datagram: its length and its files.
fn receive_into(
    socket: BorrowedFd<'_>,
    datagram: &mut [u8],
    until: Option<Instant>,
) -> Result<(usize, Vec<OwnedFd>), RecvError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES + 1))];
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if until.is_some() {
        flags |= RecvFlags::DONTWAIT;
    }
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        match recvmsg(socket, &mut [IoSliceMut::new(datagram)], &mut control, flags) {
            Ok(came) if came.bytes == 0 => return Err(RecvError::Closed),
            Ok(came) => {
                let files = control
                    .drain()
                    .filter_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(files) => Some(files),
                        _ => None,
                    })
                    .flatten()
                    .collect();
                if came.flags.contains(ReturnFlags::TRUNC) {
                    return Err(WireError::Malformed("a datagram is longer than any that is sent").into());
                }
                if came.flags.contains(ReturnFlags::CTRUNC) {
                    return Err(RecvError::Files);
                }
                return Ok((came.bytes, files));
            }
            // The other end went with unread messages; those that it sent are still to be had.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(Errno::AGAIN) => {
                if !ready(socket, PollFlags::IN, until)? {
                    return Err(RecvError::Empty);
                }
            }
            Err(error) => return Err(RecvError::Io(error.into())),
        }
    }
}

/// The header of a datagram and what follows it, checked against each other.
fn split(datagram: &[u8], longest: u64) -> Result<(FrameHeader, &[u8]), WireError> {
    let Some((header, inline)) = datagram.split_first_chunk() else {
        let missing = (FRAME_HEADER - datagram.len()) as u64;
        return Err(WireError::Cut { missing });
    };
    let header = FrameHeader::parse(*header, longest)?;
    let here = inline.len() as u64;
    let agrees = if header.kind & REST == 0 {
        here == header.length
    } else {
        here < header.length
    };
    if agrees {
        Ok((header, inline))
    } else {
        Err(WireError::Malformed(
            "the length of a datagram is not the one in its header",
        ))
    }
}

fn take<R>(
    header: FrameHeader,
    inline: &[u8],
    mut files: Vec<OwnedFd>,
    read: impl FnOnce(u8, &[u8], Vec<OwnedFd>) -> Result<R, RecvError>,
) -> Result<R, RecvError> {
    if header.kind & REST == 0 {
        return read(header.kind, inline, files);
    }
    let file = files.pop().map(File::from).ok_or(WireError::Malformed(
        "a message without the file that has its rest",
    ))?;
    let left = header.length - inline.len() as u64;
    let there = file.metadata()?.len();
    if there < left {
        return Err(WireError::Cut {
            missing: left - there,
        }
        .into());
    }
    let mut payload = inline.to_vec();
    let (mut at, mut left) = (0, left);
    while left > 0 {
        let start = payload.len();
        // No truncation: the minimum with STEP is a usize.
        let step = left.min(STEP as u64);
        payload.resize(start + step as usize, 0);
        file.read_exact_at(&mut payload[start..], at)?;
        at += step;
        left -= step;
    }
    read(header.kind & !REST, &payload, files)
}

/// Waits until the socket is ready, at most until the deadline.
pub(super) fn ready(socket: BorrowedFd<'_>, what: PollFlags, until: Option<Instant>) -> io::Result<bool> {
    let mut files = [PollFd::new(&socket, what)];
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // A time beyond what the system can express is as good as none.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut files, timeout.as_ref()) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .expect("sockets")
    }

    /// Sends a datagram that no pipe sends, and tells what is made of it.
    fn hear(datagram: &[u8], files: &[BorrowedFd<'_>]) -> Result<(u8, Vec<u8>), RecvError> {
        let (near, far) = pair();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(files.is_empty() || control.push(SendAncillaryMessage::ScmRights(files)));
        sendmsg(
            &near,
            &[IoSlice::new(datagram)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .expect("sent");
        receive(far.as_fd(), 1 << 20, Some(Instant::now()), |kind, payload, _| {
            Ok((kind, payload.to_vec()))
        })
    }

    fn header(kind: u8, length: u64) -> [u8; FRAME_HEADER] {
        FrameHeader { kind, length }.to_bytes()
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let text =
            |datagram: &[u8], files: &[BorrowedFd<'_>]| hear(datagram, files).expect_err("a lie").to_string();
        let huge = text(&header(1, 1 << 60), &[]);
        assert!(
            huge.contains("a frame of 1152921504606846976 bytes is claimed"),
            "{huge}"
        );
        let huge = text(&header(1 | REST, 1 << 60), &[]);
        assert!(huge.contains("are allowed"), "{huge}");
        assert!(text(&header(1, 5), &[]).contains("not the one in its header"));
        assert!(text(&header(1 | REST, 0), &[]).contains("not the one in its header"));
        assert!(text(&header(1 | REST, 1000), &[]).contains("without the file that has its rest"));
        let short = memory_file(&[0; 10]).expect("memory");
        assert!(text(&header(1 | REST, 1000), &[short.as_fd()]).contains("990 byte(s) missing"));
        assert!(text(b"PA", &[]).contains("10 byte(s) missing"));
        assert!(text(b"GET / HTTP/1.1", &[]).contains("not a frame"));
        let long = vec![0; DATAGRAM + 1];
        assert!(text(&long, &[]).contains("longer than any"));
        // A file that is no memory file, and has no bytes.
        let (other, _) = pair();
        assert!(hear(&header(1 | REST, 1000), &[other.as_fd()]).is_err());
    }

    proptest! {
        #[test]
        fn hostile_datagrams_never_panic(datagram in proptest::collection::vec(any::<u8>(), 1..200)) {
            let _ = hear(&datagram, &[]);
            let file = memory_file(&datagram).expect("memory");
            let _ = hear(&datagram, &[file.as_fd()]);
        }

        #[test]
        fn hostile_lengths_never_panic(kind in any::<u8>(), length in any::<u64>(), rest in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut datagram = header(kind, length).to_vec();
            datagram.extend_from_slice(&rest);
            let heard = hear(&datagram, &[]);
            prop_assert_eq!(heard.is_ok(), kind & REST == 0 && length == rest.len() as u64);
        }
    }
}
