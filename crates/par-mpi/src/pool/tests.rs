//! Pools whose ranks, or whose transport, fail them: everything ends, and says why.

use super::Office;
use crate::crew::Crew;
use crate::error::MpiError;
use crate::local::Local;
use crate::protocol::{Hello, down, message, put, split_pool, up};
use crate::transport::{Channel, Match, Message, Received, Transport};
use crate::worker::say_gone;
use crate::{Handle, MpiPool, Shutdown, StartError, TaskError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

#[par_core::task]
fn double(x: u64) -> u64 {
    2 * x
}

/// What a rank does with its first request.
type Reaction = fn(&Local, u64);

/// A rank that says that it is ready, reacts to its first request in its own way, and takes no notice of anything more.
fn rank(end: Local, reaction: Reaction) -> JoinHandle<()> {
    thread::spawn(move || {
        let until = Instant::now() + PATIENCE;
        while let Ok(Received::Message(Message { tag, bytes, .. })) =
            end.receive(Channel::Engine, Match::ANY, Some(until))
        {
            let pool = split_pool(&bytes).map_or(0, |(pool, _)| pool);
            match tag {
                down::SETUP => {
                    let ready = message(pool, |out| put(out, &Hello::Ready(1)));
                    end.send(Channel::Engine, 0, up::HELLO, ready).expect("sent");
                }
                down::BATCH => reaction(&end, pool),
                down::LEAVE => break,
                _ => {}
            }
        }
    })
}

/// A pool over one such rank.
fn pool(reaction: Reaction) -> (MpiPool, Arc<Office>, JoinHandle<()>) {
    let mut ends = Local::group(2).into_iter();
    let own = ends.next().expect("two");
    let rank = rank(ends.next().expect("two"), reaction);
    let office = Office::open(Arc::new(own)).expect("a thread");
    let crew = Crew::over(Arc::clone(&office));
    (crew.pool().expect("a pool"), office, rank)
}

#[track_caller]
fn broken(handle: Handle<u64>) -> String {
    match handle.wait_timeout(PATIENCE) {
        Ok(Err(TaskError::Broken(text))) => text,
        other => panic!("it should be told Broken, and ended as {other:?}"),
    }
}

/// Everything is told Broken for that reason, and the pool ends in time.
#[track_caller]
fn breaks(reaction: Reaction, reason: &str) {
    let (pool, office, rank) = pool(reaction);
    let handles: Vec<_> = (0..5).map(|x| pool.submit::<double>(x)).collect();
    for handle in handles.into_iter().flatten() {
        let text = broken(handle);
        assert!(text.contains(reason), "{text}");
    }
    match pool.submit::<double>(1) {
        Ok(handle) => assert!(broken(handle).contains(reason)),
        Err(error) => assert!(matches!(error, TaskError::Broken(_)), "{error}"),
    }
    let start = Instant::now();
    let report = pool.shutdown(Shutdown::Drain, None);
    assert!(start.elapsed() < PATIENCE / 2, "a broken pool ends in time");
    assert_eq!((report.ran, report.detached), (0, 0));
    let crew = Crew::over(Arc::clone(&office));
    match crew.pool().map(|pool| pool.info()) {
        Err(StartError::Unavailable(text)) => assert!(text.contains(reason), "{text}"),
        other => panic!("another pool over these ranks is {other:?}"),
    }
    office.close();
    rank.join().expect("no panic");
}

#[test]
fn a_rank_that_goes_breaks_the_pool() {
    breaks(
        |end, _| say_gone(end, "it has had enough"),
        "rank 1 serves no longer: it has had enough",
    );
}

#[test]
fn nonsense_breaks_the_pool() {
    breaks(
        |end, pool| {
            let nonsense = message(pool, |out| out.extend_from_slice(b"nonsense"));
            end.send(Channel::Engine, 0, up::REPLIES, nonsense).expect("sent");
        },
        "what rank 1 says is not readable: a message ends within a field",
    );
    breaks(
        |end, _| {
            end.send(Channel::Engine, 0, up::REPLIES, vec![1, 2])
                .expect("sent")
        },
        "what rank 1 says is not readable: a message has no number of its pool",
    );
    breaks(
        |end, pool| {
            end.send(Channel::Engine, 0, 99, message(pool, |_| {}))
                .expect("sent")
        },
        "a message of the unknown kind 99",
    );
}

#[test]
fn answers_to_what_was_not_asked_change_nothing() {
    let (pool, office, rank) = pool(|end, pool| {
        // Numbers that no request has; then the one that there is, answered as cancelled.
        for number in [77u64, 1] {
            let mut error = Vec::new();
            put(&mut error, &TaskError::Cancelled);
            let reply = message(pool, |out| {
                crate::protocol::put_reply(out, number, 5, true, &error);
            });
            end.send(Channel::Engine, 0, up::REPLIES, reply).expect("sent");
        }
        let returned = message(pool, |out| out.extend_from_slice(&88u64.to_le_bytes()));
        end.send(Channel::Engine, 0, up::RETURNED, returned)
            .expect("sent");
    });
    let handle = pool.submit::<double>(4).expect("open");
    match handle.wait_timeout(PATIENCE) {
        Ok(outcome) => assert_eq!(outcome, Err(TaskError::Cancelled)),
        Err(handle) => panic!("{handle:?} never ended"),
    }
    // The rank does not say that it has ended, and the pool does not wait for ever.
    let report = pool.shutdown(Shutdown::Drain, None);
    assert_eq!(report.ran, 1);
    office.close();
    rank.join().expect("no panic");
}

/// A transport whose sends can be made to fail.
struct Failing {
    inner: Local,
    fails: Arc<AtomicBool>,
}

impl Transport for Failing {
    fn name(&self) -> String {
        self.inner.name()
    }
    fn rank(&self) -> usize {
        self.inner.rank()
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
    fn processes(&self) -> bool {
        false
    }
    fn most_tag(&self) -> u32 {
        self.inner.most_tag()
    }
    fn send(&self, channel: Channel, dest: usize, tag: u32, bytes: Vec<u8>) -> Result<(), MpiError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(MpiError::Unusable("the wire is cut".to_owned()));
        }
        self.inner.send(channel, dest, tag, bytes)
    }
    fn try_receive(&self, channel: Channel, which: Match) -> Result<Option<Message>, MpiError> {
        self.inner.try_receive(channel, which)
    }
    fn receive(&self, channel: Channel, which: Match, until: Option<Instant>) -> Result<Received, MpiError> {
        self.inner.receive(channel, which, until)
    }
    fn wake(&self, channel: Channel) {
        self.inner.wake(channel);
    }
    fn abort(&self, code: i32, why: &str) {
        self.inner.abort(code, why);
    }
}

#[test]
fn a_transport_that_fails_breaks_the_pool() {
    let mut ends = Local::group(2).into_iter();
    let fails = Arc::new(AtomicBool::new(false));
    let own = Failing {
        inner: ends.next().expect("two"),
        fails: Arc::clone(&fails),
    };
    let rank = rank(ends.next().expect("two"), |_, _| {});
    let office = Office::open(Arc::new(own)).expect("a thread");
    let pool = Crew::over(Arc::clone(&office)).pool().expect("a pool");
    let first = pool.submit::<double>(1).expect("open");
    fails.store(true, Ordering::SeqCst);
    first.cancel();
    assert_eq!(broken(first), "the wire is cut");
    pool.shutdown(Shutdown::Drain, None);
    fails.store(false, Ordering::SeqCst);
    office.close();
    rank.join().expect("no panic");
}
