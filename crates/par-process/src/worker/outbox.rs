//! What a worker says to its pool: gathered in memory, and written by whoever finds a reason to. Replies that are gathered are kept
//! in the page as well, where the pool finds them if the worker dies.

use crate::arena::{Arena, Ring, Side};
use crate::failpoint::reach;
use crate::page::Page;
use crate::protocol::{begin_reply, end_reply, put_shared_reply, up};
use par_core::wire::{self, FRAME_HEADER, FrameHeader};
use parking_lot::Mutex;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Gathered bytes that are sent before anything else happens.
const ENOUGH: usize = 16 << 10;

/// How long a large output waits for room in the arena before it goes over the socket.
const ROOM: Duration = Duration::from_millis(50);

/// The writing end.
pub(super) struct Outbox {
    page: Page,
    gathered: Mutex<Gathered>,
}

struct Gathered {
    socket: UnixStream,
    bytes: Vec<u8>,
    /// Where the frame of replies begins that is still open.
    replies: Option<usize>,
    /// Bytes of replies that are kept in the page.
    kept: usize,
    /// The places of outputs in the arena.
    ring: Ring,
}

impl Gathered {
    fn close(&mut self) {
        if let Some(start) = self.replies.take() {
            let length = (self.bytes.len() - start - FRAME_HEADER) as u64;
            let header = FrameHeader {
                kind: up::REPLIES,
                length,
            };
            self.bytes[start..start + FRAME_HEADER].copy_from_slice(&header.to_bytes());
        }
    }
}

impl Outbox {
    pub(super) fn new(socket: UnixStream, page: Page) -> Self {
        Outbox {
            page,
            gathered: Mutex::new(Gathered {
                socket,
                bytes: Vec::new(),
                replies: None,
                kept: 0,
                ring: Ring::default(),
            }),
        }
    }

    pub(super) fn page(&self) -> &Page {
        &self.page
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gathered.lock().bytes.is_empty()
    }

    /// Adds a reply; returns whether it must be sent before the next request begins.
    pub(super) fn reply(&self, number: u64, took_ns: u64, failed: bool, bytes: &[u8]) -> bool {
        let mut gathered = self.gathered.lock();
        let is_kept = self.add(&mut gathered, |out| {
            let start = begin_reply(out);
            out.extend_from_slice(bytes);
            end_reply(out, start, number, took_ns, failed);
        });
        // A frame has a longest payload: after a long reply begins another.
        let full = !is_kept || gathered.bytes.len() >= ENOUGH;
        if full {
            gathered.close();
        }
        full
    }

    /// Adds what `put` writes of a reply; whether it is kept.
    fn add(&self, gathered: &mut Gathered, put: impl FnOnce(&mut Vec<u8>)) -> bool {
        if gathered.replies.is_none() {
            let start = gathered.bytes.len();
            gathered.replies = Some(start);
            gathered.bytes.resize(start + FRAME_HEADER, 0);
        }
        let Gathered { bytes: out, kept, .. } = gathered;
        let before = out.len();
        put(out);
        let is_kept = self.page.keep(*kept, &out[before..]);
        if is_kept {
            *kept += out.len() - before;
        }
        is_kept
    }

    /// Writes a reply into the arena and adds word of it; `None` where there is no room for it. Waits for room a moment, as the pool
    /// may be about to read others.
    pub(super) fn reply_shared(
        &self,
        number: u64,
        took_ns: u64,
        arena: &Arena,
        bytes: &[u8],
    ) -> Option<bool> {
        let until = Instant::now() + ROOM;
        loop {
            let (freed, times) = self.page.freed();
            {
                let mut gathered = self.gathered.lock();
                if gathered.ring.is_none() {
                    gathered.ring = Ring::new(arena.half());
                }
                gathered.ring.free(freed);
                if !gathered.ring.fits(bytes.len()) {
                    return None;
                }
                if let Some(place) = gathered.ring.place(bytes.len()) {
                    if !arena.put(Side::Up, place, bytes) {
                        gathered.ring.undo(place);
                        return None;
                    }
                    self.add(&mut gathered, |out| {
                        put_shared_reply(out, number, took_ns, place);
                    });
                    // Whoever wants it has waited for long.
                    gathered.close();
                    return Some(true);
                }
            }
            // The pool reads only what it was sent.
            self.flush();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.page.wait_freed(times, left);
        }
    }

    /// Adds a frame whose payload `fill` writes.
    pub(super) fn frame<E>(
        &self,
        kind: u8,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut gathered = self.gathered.lock();
        gathered.close();
        wire::append_frame(&mut gathered.bytes, kind, fill)
    }

    /// Sends what was gathered.
    pub(super) fn flush(&self) {
        let mut gathered = self.gathered.lock();
        if gathered.bytes.is_empty() {
            return;
        }
        gathered.close();
        let Gathered { socket, bytes, .. } = &mut *gathered;
        reach("worker.sending");
        // A pool that is gone is noticed by those who read.
        let _ = socket.write_all(bytes);
        bytes.clear();
        if bytes.capacity() > 64 * ENOUGH {
            *bytes = Vec::new();
        }
        gathered.kept = 0;
        self.page.forget_kept();
    }
}
