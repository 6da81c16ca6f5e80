//! The one thread that speaks to the server, connection after connection.

use super::Shared;
use super::calls::FAREWELL;
use super::line::Line;
use super::open::open;
use crate::broker::BrokerError;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// A connection that ends sooner is not followed by the next one at once.
const BRIEF: Duration = Duration::from_secs(5);

/// Why a connection is not there.
pub(super) enum Trouble {
    /// It may be there later.
    Lost(String),
    /// The queue of this peer is gone (rule 10).
    Forgotten,
    /// It has not taken what was published for as long as it may be away.
    Refused,
}

impl From<lapin::Error> for Trouble {
    fn from(error: lapin::Error) -> Self {
        Trouble::Lost(error.to_string())
    }
}

pub(super) type Result<T> = std::result::Result<T, Trouble>;

/// Connects, tells how that went, and works until the peer leaves or the server is given up.
pub(super) fn run(shared: &Shared, tell: &Sender<std::result::Result<(), String>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody listens any more where the start was given up; here and below.
            let _ = tell.send(Err(format!("cannot start a runtime: {error}")));
            return;
        }
    };
    let work = async {
        let mut line = match open(shared, true).await {
            Ok(line) => line,
            Err(trouble) => {
                let _ = tell.send(Err(text(trouble)));
                return;
            }
        };
        let _ = tell.send(Ok(()));
        let mut absence = Absence::default();
        loop {
            match line.serve(shared).await {
                Ok(()) => return line.close(shared).await,
                Err(Trouble::Refused) => {
                    let away = shared.outage.as_secs_f64();
                    let reason = format!(
                        "the server took no message for {away} s, as a policy for full queues or a failed queue makes it do"
                    );
                    let broker = shared.url.clone();
                    fail(shared, BrokerError::Failed { broker, reason });
                    return line.close(shared).await;
                }
                Err(trouble) => {
                    absence.begin(&line, text(trouble));
                    line.abandon(shared, &absence.reason).await;
                }
            }
            match again(shared, &mut absence).await {
                Some(next) => line = next,
                None => return,
            }
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = work => {}
            () = overdue(shared) => {}
        }
    });
    // Threads of the client that still wait for the server are of no use to anybody.
    runtime.shutdown_background();
}

/// When a peer that leaves waits for the server no longer: soon, and sooner if it has not confirmed what was written before.
async fn overdue(shared: &Shared) {
    shared.left.notified().await;
    let answers = shared.state.lock().outbox.is_empty();
    sleep(if answers { FAREWELL } else { FAREWELL / 4 }).await;
}

fn text(trouble: Trouble) -> String {
    match trouble {
        Trouble::Lost(reason) => reason,
        Trouble::Forgotten => "the queue of this peer is gone".to_owned(),
        Trouble::Refused => "the server refuses messages".to_owned(),
    }
}

/// A time without a connection that is of use (rule 10).
#[derive(Default)]
struct Absence {
    since: Option<Instant>,
    /// Why the last connection, or the last try, ended.
    reason: String,
    /// How long to wait before the next try: longer each time, also after connections that end soon.
    pause: Duration,
}

impl Absence {
    fn begin(&mut self, ended: &Line, reason: String) {
        if ended.useful {
            self.since = None;
        }
        if ended.opened.elapsed() > BRIEF {
            self.pause = Duration::ZERO;
        }
        self.since.get_or_insert_with(Instant::now);
        self.reason = reason;
    }

    fn next_pause(&mut self) -> Duration {
        let now = self.pause;
        self.pause = (now * 2).clamp(Duration::from_millis(50), PAUSE);
        now
    }
}

/// Rule 10. None when the peer leaves, or gives the server up.
async fn again(shared: &Shared, absence: &mut Absence) -> Option<Line> {
    loop {
        let until = Instant::now() + absence.next_pause();
        while Instant::now() < until && !shared.state.lock().leaving {
            // A peer that leaves ends the pause; what else is to be sent has to wait.
            let left = until.saturating_duration_since(Instant::now());
            let _ = timeout(left, shared.pending.notified()).await;
        }
        if shared.state.lock().leaving {
            return None;
        }
        let since = absence.since.map_or(Duration::ZERO, |since| since.elapsed());
        if since > shared.outage {
            let away = shared.outage.as_secs_f64();
            fail(
                shared,
                BrokerError::Failed {
                    broker: shared.url.clone(),
                    reason: format!("it was out of reach for {away} s: {}", absence.reason),
                },
            );
            return None;
        }
        absence.reason = match open(shared, false).await {
            Ok(line) => return Some(line),
            Err(Trouble::Forgotten) => {
                let lease = shared.joined.lease;
                let error = if shared.presence.is_fenced() {
                    BrokerError::Buried { lease }
                } else {
                    BrokerError::Failed {
                        broker: shared.url.clone(),
                        reason: format!(
                            "the queue {} of this process is gone from the server: it was deleted, or forgotten by the server, or \
                             others took this process for dead",
                            shared.queue_of(shared.me)
                        ),
                    }
                };
                fail(shared, error);
                return None;
            }
            Err(trouble) => text(trouble),
        };
    }
}

/// Ends every wait on the broker.
fn fail(shared: &Shared, error: BrokerError) {
    shared.state.lock().failure = Some(error);
    shared.changed.notify_all();
    shared.ring(|rung| rung.news = true);
}
