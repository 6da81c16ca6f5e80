//! How those who wait for a file hear that another process, or another thread of this one, has changed it.
//!
//! Who has changed the file touches it, after its transaction. A thread, started when somebody first waits, sleeps in the kernel until somebody
//! does (inotify): so it wakes once for a change, and when that is there to be seen. Where there is no such thing, who waits looks a few times a
//! second.

use super::Seen;
use parking_lot::{Condvar, Mutex};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, Weak};
use std::time::{Duration, Instant};

pub(crate) struct Ring {
    shared: Arc<Shared>,
    path: Option<PathBuf>,
    listens: Once,
}

#[derive(Default)]
struct Shared {
    changes: Mutex<u64>,
    changed: Condvar,
}

impl Shared {
    fn ring(&self) {
        *self.changes.lock() += 1;
        self.changed.notify_all();
    }
}

/// How often who waits looks where the system does not tell, and the thread whether it is still wanted.
const LOOK: Duration = Duration::from_millis(250);

impl Ring {
    pub(crate) fn new(path: Option<&Path>) -> Self {
        Ring {
            shared: Arc::default(),
            path: path.map(Path::to_path_buf),
            listens: Once::new(),
        }
    }

    pub(crate) fn ring(&self) {
        self.shared.ring();
        if let Some(path) = &self.path {
            use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            };
            let times = Timestamps {
                last_access: now,
                last_modification: now,
            };
            // Others look now and then, too.
            let _ = utimensat(CWD, path, &times, AtFlags::empty());
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.listens.call_once(|| {
            if let Some(path) = &self.path {
                listen(path, Arc::downgrade(&self.shared));
            }
        });
        Seen(*self.shared.changes.lock())
    }

    pub(crate) fn wait(&self, since: Seen, timeout: Duration) {
        let until = Instant::now() + timeout.min(LOOK);
        let mut changes = self.shared.changes.lock();
        while *changes == since.0 && !self.shared.changed.wait_until(&mut changes, until).timed_out() {}
    }
}

#[cfg(target_os = "linux")]
fn listen(path: &Path, shared: Weak<Shared>) {
    use rustix::fs::inotify;
    let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK);
    let Ok(events) = events else {
        return;
    };
    if inotify::add_watch(&events, path, inotify::WatchFlags::ATTRIB).is_err() {
        return;
    }
    let hears = move || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&events, &mut buffer);
        let timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(LOOK.subsec_nanos()),
        };
        loop {
            let mut poll = [rustix::event::PollFd::new(&events, rustix::event::PollFlags::IN)];
            let _ = rustix::event::poll(&mut poll, Some(&timeout));
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let mut touched = false;
            while reader.next().is_ok() {
                touched = true;
            }
            if touched {
                shared.ring();
            }
        }
    };
    // Without it, who waits looks now and then.
    let _ = std::thread::Builder::new()
        .name("par-dist-ring".to_owned())
        .spawn(hears);
}

#[cfg(not(target_os = "linux"))]
fn listen(_: &Path, _: Weak<Shared>) {}
