//! Frames: a versioned header and a payload, for sockets, pipes and files.
//!
//! A header is 12 bytes, little-endian: magic `PA`, version, kind, and the payload's length as u64.

use super::WireError;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::ops::Range;

/// Length of a frame's header in bytes.
pub const FRAME_HEADER: usize = 12;

/// The protocol version of this program.
pub const FRAME_VERSION: u8 = 1;

/// The longest payload that is allowed unless somebody asks for another bound: 256 MiB.
pub const MAX_FRAME: u64 = 256 << 20;

const MAGIC: [u8; 2] = *b"PA";

/// A buffer grows by this much while a payload arrives, so that a header alone costs no memory.
const STEP: usize = 1 << 20;

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload is; the protocol that uses the frames gives it a meaning.
    pub kind: u8,
    /// Length of the payload in bytes.
    pub length: u64,
}

impl FrameHeader {
    /// The header as bytes.
    pub fn to_bytes(self) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = FRAME_VERSION;
        bytes[3] = self.kind;
        bytes[4..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Reads a header and checks it against the longest payload that is allowed, in bytes.
    ///
    /// # Errors
    /// [`WireError::Magic`], [`WireError::Version`] or [`WireError::TooLarge`].
    pub fn parse(bytes: [u8; FRAME_HEADER], allowed: u64) -> Result<Self, WireError> {
        let [m0, m1, version, kind, length @ ..] = bytes;
        if [m0, m1] != MAGIC {
            return Err(WireError::Magic([m0, m1]));
        }
        if version != FRAME_VERSION {
            return Err(WireError::Version {
                theirs: version,
                ours: FRAME_VERSION,
            });
        }
        let length = u64::from_le_bytes(length);
        // A payload must also fit in this machine's memory.
        if length > allowed || usize::try_from(length).is_err() {
            return Err(WireError::TooLarge {
                claimed: length,
                allowed,
            });
        }
        Ok(FrameHeader { kind, length })
    }
}

/// Appends a frame to `out` whose payload `fill` writes in place. On an error `out` is as it was.
///
/// # Errors
/// The error of `fill`.
///
/// ```
/// use par_core::wire;
/// let mut out = Vec::new();
/// wire::append_frame(&mut out, 7, |payload| wire::encode("hello", payload))?;
/// let mut payload = Vec::new();
/// let kind = wire::read_frame(&mut &out[..], wire::MAX_FRAME, &mut payload)?;
/// assert_eq!(kind, Some(7));
/// assert_eq!(wire::from_bytes::<String>(&payload)?, "hello");
/// # Ok::<(), wire::WireError>(())
/// ```
pub fn append_frame<E>(
    out: &mut Vec<u8>,
    kind: u8,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    let body = start + FRAME_HEADER;
    out.extend_from_slice(&FrameHeader { kind, length: 0 }.to_bytes());
    if let Err(error) = fill(out) {
        out.truncate(start);
        return Err(error);
    }
    let length = (out.len() - body) as u64;
    out[start..body].copy_from_slice(&FrameHeader { kind, length }.to_bytes());
    Ok(())
}

/// Writes one frame, header and payload in one call of the operating system where it can.
///
/// # Errors
/// [`WireError::Io`] when the writer fails; part of the frame may have been written.
pub fn write_frame(writer: &mut (impl Write + ?Sized), kind: u8, payload: &[u8]) -> Result<(), WireError> {
    let header = FrameHeader {
        kind,
        length: payload.len() as u64,
    }
    .to_bytes();
    let mut slices = [IoSlice::new(&header), IoSlice::new(payload)];
    let mut rest = &mut slices[..];
    while rest.iter().any(|slice| !slice.is_empty()) {
        match writer.write_vectored(rest) {
            Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads one frame into `payload`, replacing what it held, and returns its kind; `None` where the stream
/// ended before the frame began. `allowed` is the longest payload in bytes.
///
/// Memory is taken as bytes arrive, so a header that lies about its length costs nothing.
///
/// # Errors
/// [`WireError::Cut`] when the stream ends within the frame, what [`FrameHeader::parse`] refuses, and
/// [`WireError::Io`].
pub fn read_frame(
    reader: &mut (impl Read + ?Sized),
    allowed: u64,
    payload: &mut Vec<u8>,
) -> Result<Option<u8>, WireError> {
    payload.clear();
    let mut header = [0; FRAME_HEADER];
    match fill(reader, &mut header)? {
        0 => return Ok(None),
        FRAME_HEADER => {}
        got => {
            return Err(WireError::Cut {
                missing: (FRAME_HEADER - got) as u64,
            });
        }
    }
    let header = FrameHeader::parse(header, allowed)?;
    let mut left = header.length;
    while left > 0 {
        let start = payload.len();
        // No truncation: the minimum with STEP is a usize.
        payload.resize(start + left.min(STEP as u64) as usize, 0);
        let got = fill(reader, &mut payload[start..])?;
        left -= got as u64;
        if start + got < payload.len() {
            return Err(WireError::Cut { missing: left });
        }
    }
    Ok(Some(header.kind))
}

/// Reads until `buffer` is full or the stream ends, and returns how much was read.
fn fill(reader: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> Result<usize, WireError> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(got)
}

/// Cuts frames out of bytes that arrive in pieces, as from a socket that does not block.
///
/// ```
/// use par_core::wire::{self, FrameDecoder};
/// let mut stream = Vec::new();
/// wire::write_frame(&mut stream, 1, b"one")?;
/// wire::write_frame(&mut stream, 2, b"two")?;
/// let mut decoder = FrameDecoder::new(wire::MAX_FRAME);
/// let (left, right) = stream.split_at(20);
/// decoder.feed(left);
/// assert_eq!(decoder.next_frame()?, Some((1, &b"one"[..])));
/// assert_eq!(decoder.next_frame()?, None);
/// decoder.feed(right);
/// assert_eq!(decoder.next_frame()?, Some((2, &b"two"[..])));
/// # Ok::<(), wire::WireError>(())
/// ```
#[derive(Debug)]
pub struct FrameDecoder {
    allowed: u64,
    /// Initialised memory; what has arrived and was not yet handed out is `buffer[held]`.
    buffer: Vec<u8>,
    held: Range<usize>,
}

impl FrameDecoder {
    /// A decoder that refuses payloads longer than `allowed` bytes.
    pub fn new(allowed: u64) -> Self {
        FrameDecoder {
            allowed,
            buffer: Vec::new(),
            held: 0..0,
        }
    }

    /// Takes bytes that have arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.held.end += bytes.len();
    }

    /// Reads once from `reader` straight into the decoder's memory. Returns how many bytes came; 0 is the
    /// end of the stream.
    ///
    /// # Errors
    /// The error of the reader, `WouldBlock` included.
    pub fn read_from(&mut self, reader: &mut (impl Read + ?Sized)) -> io::Result<usize> {
        const READ: usize = 64 << 10;
        let got = reader.read(self.room(READ))?;
        self.held.end += got;
        Ok(got)
    }

    /// The next whole frame, kind and payload, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// What [`FrameHeader::parse`] refuses. The stream is then useless, and every further call says the same.
    pub fn next_frame(&mut self) -> Result<Option<(u8, &[u8])>, WireError> {
        let Some((&header, arrived)) = self.buffer[self.held.clone()].split_first_chunk() else {
            return Ok(None);
        };
        let header = FrameHeader::parse(header, self.allowed)?;
        if (arrived.len() as u64) < header.length {
            return Ok(None);
        }
        let start = self.held.start + FRAME_HEADER;
        // No truncation: that many bytes are in memory.
        let end = start + header.length as usize;
        self.held.start = end;
        Ok(Some((header.kind, &self.buffer[start..end])))
    }

    /// Checks, at the end of the stream, that it did not end within a frame.
    ///
    /// # Errors
    /// [`WireError::Cut`] when it did, and what [`next_frame`](Self::next_frame) refuses.
    pub fn finish(&self) -> Result<(), WireError> {
        let held = &self.buffer[self.held.clone()];
        let missing = match held.split_first_chunk() {
            _ if held.is_empty() => return Ok(()),
            None => (FRAME_HEADER - held.len()) as u64,
            Some((&header, arrived)) => FrameHeader::parse(header, self.allowed)?
                .length
                .saturating_sub(arrived.len() as u64),
        };
        if missing == 0 {
            Ok(())
        } else {
            Err(WireError::Cut { missing })
        }
    }

    /// Free memory of at least `count` bytes behind what is held. It grows only as bytes arrive.
    fn room(&mut self, count: usize) -> &mut [u8] {
        if self.held.is_empty() {
            self.held = 0..0;
            // One great frame must not keep its memory for the life of a connection.
            if self.buffer.len() > STEP {
                self.buffer = Vec::new();
            }
        }
        if self.buffer.len() - self.held.end < count {
            // Moving what is held pays only when at least as much was handed out.
            if self.held.start >= self.held.len() {
                self.buffer.copy_within(self.held.clone(), 0);
                self.held = 0..self.held.len();
            }
            let needed = self.held.end + count;
            if self.buffer.len() < needed {
                self.buffer.resize(needed.max(self.held.end * 2), 0);
            }
        }
        &mut self.buffer[self.held.end..]
    }
}
