//! What workers print: read from a pipe a worker, and passed on in whole lines.
//!
//! 1. One thread reads all pipes and writes to the standard output of this program, every line at one go. It takes no lock of the
//!    standard library: who holds that may be waiting for the very task that prints.
//! 2. A line that ends is passed on at once; one that does not when its pipe ends, or when it is longer than [`LONGEST`].
//! 3. A pipe is read to its end, which is when the worker and all that it has started have ended; at the end of the pool, what
//!    is there by then is passed on.

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

/// The longest line that is kept together, in bytes.
const LONGEST: usize = 1 << 20;

/// The side of the pool.
pub(super) struct Output {
    shared: Arc<Shared>,
    /// Disconnected once the thread has ended.
    ended: Mutex<Option<Receiver<()>>>,
}

struct Shared {
    new: Mutex<New>,
    wake: OwnedFd,
}

#[derive(Default)]
struct New {
    pipes: Vec<PipeReader>,
    over: bool,
}

/// A pipe, and the line that it is in the middle of.
struct Printer {
    pipe: PipeReader,
    line: Vec<u8>,
}

impl Output {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Output {
            shared: Arc::new(Shared {
                new: Mutex::default(),
                wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            }),
            ended: Mutex::new(None),
        })
    }

    /// A pipe for a worker's standard output.
    pub(super) fn pipe(&self) -> io::Result<PipeWriter> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        let mut ended = self.ended.lock();
        if ended.is_none() {
            let (tell, told) = channel();
            let shared = Arc::clone(&self.shared);
            thread::Builder::new()
                .name("par-process-out".to_owned())
                .spawn(move || {
                    shared.pass_on();
                    drop(tell);
                })?;
            *ended = Some(told);
        }
        self.shared.new.lock().pipes.push(reader);
        self.shared.rouse();
        Ok(writer)
    }

    /// Passes on what workers have printed by now, and ends. Past the deadline whoever reads the output of this program holds it
    /// up, and the thread is left to itself.
    pub(super) fn end(&self, until: Instant) {
        self.shared.new.lock().over = true;
        self.shared.rouse();
        if let Some(ended) = self.ended.lock().take() {
            // It says nothing, and goes away when it is through.
            let _ = ended.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

impl Shared {
    fn rouse(&self) {
        // A counter that is full wakes as well.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn pass_on(&self) {
        let mut printers: Vec<Printer> = Vec::new();
        loop {
            let over = {
                let mut new = self.new.lock();
                printers.extend(new.pipes.drain(..).map(|pipe| Printer {
                    pipe,
                    line: Vec::new(),
                }));
                new.over
            };
            // What has come before the end was told is there by now.
            printers.retain_mut(|printer| printer.read() && !over);
            if over {
                return;
            }
            let mut files = vec![PollFd::new(&self.wake, PollFlags::IN)];
            files.extend(
                printers
                    .iter()
                    .map(|printer| PollFd::from_borrowed_fd(printer.pipe.as_fd(), PollFlags::IN)),
            );
            // An interruption is a round without news.
            let _ = poll(&mut files, None);
            // What it holds does not matter.
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
    }
}

impl Printer {
    /// Passes on what there is; false at the end.
    fn read(&mut self) -> bool {
        let mut piece = [0; 16 << 10];
        loop {
            match self.pipe.read(&mut piece) {
                Ok(0) => return false,
                Ok(count) => self.take(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, piece: &[u8]) {
        let whole = piece
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let (lines, rest) = piece.split_at(whole);
        if !lines.is_empty() {
            self.line.extend_from_slice(lines);
            self.print();
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > LONGEST {
            self.print();
        }
    }

    fn print(&mut self) {
        let mut bytes = &self.line[..];
        while !bytes.is_empty() {
            match rustix::io::write(rustix::stdio::stdout(), bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    // Somebody has made it one that does not block.
                    let stdout = rustix::stdio::stdout();
                    let _ = poll(&mut [PollFd::from_borrowed_fd(stdout, PollFlags::OUT)], None);
                }
                // Nobody reads it any more.
                Err(_) => break,
            }
        }
        self.line.clear();
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.print();
    }
}
