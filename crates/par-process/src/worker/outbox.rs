//! What a worker says to its pool: gathered in memory, and written by whoever finds a reason to. Replies that are gathered are kept
//! in the page as well, where the pool finds them if the worker dies.

use crate::page::Page;
use crate::protocol::{begin_reply, end_reply, up};
use par_core::wire::{self, FRAME_HEADER, FrameHeader};
use parking_lot::Mutex;
use std::io::Write;
use std::os::unix::net::UnixStream;

/// Gathered bytes that are sent before anything else happens.
const ENOUGH: usize = 16 << 10;

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
        if gathered.replies.is_none() {
            let start = gathered.bytes.len();
            gathered.replies = Some(start);
            gathered.bytes.resize(start + FRAME_HEADER, 0);
        }
        let Gathered { bytes: out, kept, .. } = &mut *gathered;
        let before = out.len();
        let start = begin_reply(out);
        out.extend_from_slice(bytes);
        end_reply(out, start, number, took_ns, failed);
        let is_kept = self.page.keep(*kept, &out[before..]);
        if is_kept {
            *kept += out.len() - before;
        }
        // A frame has a longest payload: after a long reply begins another.
        let full = !is_kept || out.len() >= ENOUGH;
        if full {
            gathered.close();
        }
        full
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
