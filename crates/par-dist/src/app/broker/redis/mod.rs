//! Tasks and results on a Redis server, as Celery puts them there.
//!
//! 1. A queue is four lists, one for each step of priority ([`wire`]). What is leased is kept by its tag until it is acknowledged, as kombu does it, so
//!    that a worker of Celery's gives it back if no one else does. What a step consists of, the server does at once ([`scripts`]).
//! 2. A worker shows with each heartbeat that what it has leased is alive. What was not for the length of the lease, or of Celery's an hour, goes back.
//! 3. A task that is to wait goes to its queue as any other, as it may be one of Celery's workers that takes it. Ours puts it into a sorted set,
//!    `QUEUE.later`, by its time, from where it goes to its list when one of ours looks.
//! 4. A result is kept at `celery-task-meta-ID`, and told on the channel of that name.
//! 5. A server that is away is asked again for a while. What it had done then may be done twice: a task may be there twice.

mod group;
mod listen;
mod results;
mod scripts;
mod wire;

use super::{Incoming, Outcome, Outgoing, Revocation, Seen, Tag, Transport};
use crate::app::AppError;
use crate::app::config::Config;
use crate::app::control_message;
use crate::app::time::due;
use crate::redis_server::{Address, is_away};
use crate::{BrokerError, BrokerUrl};
use ::redis::{Connection, RedisError, RedisResult, ScriptInvocation, cmd};
use group::Line;
use jiff::Timestamp;
use listen::Listener;
use parking_lot::Mutex;
use results::{meta, millis};
use scripts::{INDEX, Scripts, UNACKED};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, BrokerError>;

/// How long a server that is away is asked again.
const OUTAGE: Duration = Duration::from_secs(60);
/// The longest text that a server takes, unless it is configured otherwise; one that is longer costs the connection.
const LONGEST: usize = 512 << 20;
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// How long what a worker of Celery's has leased is left alone, in seconds; kombu's own default.
const VISIBILITY: f64 = 3600.0;
/// What the tags of ours begin with.
const OURS: &str = "par:";

pub(crate) struct Redis {
    url: BrokerUrl,
    address: Address,
    connection: Mutex<Option<Connection>>,
    /// What is asked for by whoever asks next.
    line: Mutex<Line>,
    scripts: Scripts,
    /// This consumer: what its tags begin with.
    me: String,
    number: AtomicI64,
    leased: Mutex<HashSet<i64>>,
    listener: Arc<Listener>,
    lease: Duration,
    expires: Duration,
    /// Whether nobody has time to wait any more.
    leaves: bool,
    /// When what others had leased was looked at last.
    looked: Mutex<Option<Instant>>,
}

impl Redis {
    /// Connects.
    pub(crate) fn open(
        option: &'static str,
        url: &str,
        config: &Config,
    ) -> std::result::Result<Self, AppError> {
        let broker = BrokerUrl::from(url);
        let refused = |error: RedisError| BrokerError::Open {
            broker: broker.clone(),
            reason: error.to_string(),
        };
        let address = Address::parse(url, &[]).map_err(|reason| AppError::Option {
            option,
            reason: format!("{broker}: {reason}"),
        })?;
        let me = uuid::Uuid::new_v4().to_string();
        let db = address.client.get_connection_info().redis_settings().db();
        let listener = Listener::new(&address.client, &me, db);
        let (scripts, mut connection) = (Scripts::new(), address.connect().map_err(refused)?);
        scripts.load(&mut connection).map_err(refused)?;
        Ok(Redis {
            url: broker.clone(),
            connection: Mutex::new(Some(connection)),
            line: Mutex::default(),
            address,
            scripts,
            me: format!("{OURS}{me}:"),
            number: AtomicI64::new(0),
            leased: Mutex::default(),
            listener,
            lease: config.lease,
            expires: config.result_expires,
            leaves: false,
            looked: Mutex::default(),
        })
    }

    /// Rule 5.
    fn call<T>(&self, ask: impl Fn(&mut Connection) -> RedisResult<T>) -> Result<T> {
        self.again(|| self.try_once(&ask))
    }

    /// Tries until the server is there, but not for ever.
    fn again<T>(&self, ask: impl Fn() -> RedisResult<T>) -> Result<T> {
        let outage = if self.leaves { Duration::ZERO } else { OUTAGE };
        let (until, mut pause) = (Instant::now() + outage, PAUSE / 32);
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(error) if is_away(&error) && Instant::now() < until => {
                    tracing::debug!(broker = %self.url, %error, "the server is away");
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(PAUSE);
                }
                Err(error) => {
                    let (broker, reason) = (self.url.clone(), error.to_string());
                    return Err(if error.code() == Some("OOM") {
                        BrokerError::Full { broker, reason }
                    } else {
                        BrokerError::Failed { broker, reason }
                    });
                }
            }
        }
    }

    fn try_once<T>(&self, ask: impl Fn(&mut Connection) -> RedisResult<T>) -> RedisResult<T> {
        self.on(&mut self.connection.lock(), ask)
    }

    /// Asks, over a new connection if the last one broke.
    fn on<T>(
        &self,
        slot: &mut Option<Connection>,
        ask: impl FnOnce(&mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let connection = match &mut *slot {
            Some(open) => open,
            none => {
                let mut fresh = self.address.connect()?;
                self.scripts.load(&mut fresh)?;
                none.insert(fresh)
            }
        };
        let answer = ask(connection);
        if answer.as_ref().is_err_and(is_away) {
            *slot = None;
        }
        answer
    }

    fn tag(&self, tag: Tag) -> String {
        format!("{}{}", self.me, tag.0)
    }

    /// What puts tasks and an outcome, and ends the lease of `tag`, if there is one; false, and nothing of it, if it was leased no more.
    fn putting(
        &self,
        tag: Option<Tag>,
        outcome: Option<&Outcome>,
        tasks: &[Outgoing],
    ) -> Result<ScriptInvocation<'_>> {
        let now = Timestamp::now();
        let reply_to = self.me.trim_start_matches(OURS).trim_end_matches(':');
        let document = outcome.map_or_else(String::new, |outcome| outcome.document.to_string());
        let mut longest = document.len();
        let mut put = self.scripts.put.key(UNACKED);
        put.key(INDEX);
        put.key(outcome.map_or_else(String::new, |outcome| meta(&outcome.id)));
        put.arg(tag.map_or_else(String::new, |tag| self.tag(tag)));
        put.arg(document).arg(millis(self.expires));
        for task in tasks {
            // Rule 3.
            let at = task.at.filter(|at| tag.is_some() && *at > now);
            let raw = wire::write(task, reply_to, at.is_some());
            longest = longest.max(raw.len());
            let list = wire::list(&task.queue, task.message.properties.priority);
            match at {
                None => put.key(list).arg("").arg(raw),
                Some(at) => {
                    let lists = wire::lists(&task.queue);
                    let step = lists.iter().position(|other| *other == list).unwrap_or(0);
                    put.key(later(&task.queue))
                        .arg(due(at))
                        .arg(format!("{step}{raw}"))
                }
            };
        }
        if longest > LONGEST {
            return Err(BrokerError::TooLong {
                broker: self.url.clone(),
                reason: format!(
                    "a message has {longest} bytes, and a server takes {LONGEST} (`proto-max-bulk-len`)"
                ),
            });
        }
        Ok(put)
    }

    fn put(&self, tag: Option<Tag>, outcome: Option<&Outcome>, tasks: &[Outgoing]) -> Result<bool> {
        let put = self.putting(tag, outcome, tasks)?;
        let put = self.step(&put)? > 0;
        if let Some(tag) = tag {
            self.leased.lock().remove(&tag.0);
        }
        Ok(put)
    }

    /// Gives back what is kept under that tag, whoever leased it.
    fn give_back(&self, tag: &str) -> Result<()> {
        let kept: Option<String> =
            self.call(|connection| cmd("HGET").arg(UNACKED).arg(tag).query(connection))?;
        match kept.as_deref().map(wire::to_give_back) {
            // Somebody else was first.
            None => self.end(&[tag.to_owned()]).map(drop),
            Some(Some((list, raw))) => self
                .call(|connection| {
                    let mut back = self.scripts.give_back.key(UNACKED);
                    back.key(INDEX).key(&list).arg(tag).arg(&raw);
                    back.invoke::<bool>(connection)
                })
                .map(drop),
            Some(None) => {
                tracing::error!(tag, "dropped what is no task, as it cannot go back to a queue");
                self.end(&[tag.to_owned()]).map(drop)
            }
        }
    }

    fn end(&self, tags: &[String]) -> Result<usize> {
        let mut end = self.scripts.end.key(UNACKED);
        end.key(INDEX).arg(tags);
        Ok(usize::try_from(self.step(&end)?).unwrap_or(0))
    }

    /// Rule 2.
    fn take_back(&self, now: f64) -> Result<()> {
        let oldest = now - self.lease.as_secs_f64();
        let mut from = 0isize;
        loop {
            let tags: Vec<(String, f64)> = self.call(|connection| {
                let mut old = cmd("ZRANGEBYSCORE");
                old.arg(INDEX).arg("-inf").arg(oldest).arg("WITHSCORES");
                old.arg("LIMIT").arg(from).arg(1000).query(connection)
            })?;
            for (tag, _) in tags
                .iter()
                .filter(|(tag, score)| tag.starts_with(OURS) || *score < now - VISIBILITY)
            {
                tracing::warn!(tag, "goes back to its queue: whoever had it shows no heartbeat");
                self.give_back(tag)?;
                from -= 1;
            }
            if tags.len() < 1000 {
                return Ok(());
            }
            from += 1000;
        }
    }
}

fn later(queue: &str) -> String {
    format!("{queue}.later")
}

impl Transport for Redis {
    fn publish(&self, tasks: &[Outgoing]) -> Result<()> {
        self.put(None, None, tasks).map(drop)
    }

    fn lease(&self, queues: &[String], most: usize) -> Result<Vec<Incoming>> {
        self.listener.watch(queues);
        let names: Vec<String> = queues.iter().map(|queue| json!(queue).to_string()).collect();
        let first = self.number.load(Ordering::Relaxed);
        let leased: Vec<(i64, usize, Vec<u8>)> = self.call(|connection| {
            let mut lease = self.scripts.lease.key(UNACKED);
            lease.key(INDEX).arg(most).arg(&self.me).arg(first);
            for queue in queues {
                lease.key(later(queue)).key(wire::lists(queue).as_slice());
            }
            let flat: Vec<::redis::Value> = lease.arg(&names).invoke(connection)?;
            let triples = flat.chunks_exact(3);
            triples
                .map(|triple| Ok(::redis::from_redis_value(::redis::Value::Array(triple.to_vec()))?))
                .collect()
        })?;
        let mut mine = self.leased.lock();
        let incoming = leased.into_iter().map(|(number, queue, raw)| {
            self.number.fetch_max(number, Ordering::Relaxed);
            mine.insert(number);
            wire::read(Tag(number), &queues[queue], &String::from_utf8_lossy(&raw))
        });
        Ok(incoming.collect())
    }

    fn next_due(&self, queues: &[String]) -> Result<Option<Duration>> {
        let mut ask = ::redis::pipe();
        ask.cmd("TIME");
        for queue in queues {
            ask.cmd("ZRANGE")
                .arg(later(queue))
                .arg(0)
                .arg(0)
                .arg("WITHSCORES");
        }
        let mut answers = self
            .call(|connection| ask.query::<Vec<::redis::Value>>(connection))?
            .into_iter();
        let read = |value: ::redis::Value| ::redis::from_redis_value::<Vec<(Vec<u8>, f64)>>(value).ok();
        let (seconds, micros) = answers
            .next()
            .and_then(|time| ::redis::from_redis_value::<(i64, i64)>(time).ok())
            .unwrap_or_default();
        let now = seconds * 1000 + micros / 1000;
        let firsts = answers.filter_map(|first| Some(read(first)?.first()?.1 as i64));
        let soonest = firsts.min();
        Ok(soonest.map(|due| Duration::from_millis((due - now).max(0).unsigned_abs())))
    }

    fn acknowledge(&self, tags: &[Tag]) -> Result<usize> {
        let names: Vec<String> = tags.iter().map(|tag| self.tag(*tag)).collect();
        let ended = self.end(&names)?;
        let mut leased = self.leased.lock();
        for tag in tags {
            leased.remove(&tag.0);
        }
        Ok(ended)
    }

    fn release(&self, tags: &[Tag]) -> Result<()> {
        // The last that was leased goes back first, so that the first is before it.
        for tag in tags.iter().rev() {
            self.give_back(&self.tag(*tag))?;
            self.leased.lock().remove(&tag.0);
        }
        Ok(())
    }

    fn conclude(&self, lease: Option<Tag>, outcome: Option<Outcome>, next: &[Outgoing]) -> Result<()> {
        self.put(lease, outcome.as_ref(), next).map(drop)
    }

    fn defer(&self, tasks: Vec<(Tag, Outgoing)>) -> Result<()> {
        // Each is a step; their answers come together.
        let mut all = ::redis::pipe();
        all.load_script(&self.scripts.put).ignore();
        for (tag, task) in &tasks {
            let put = self.putting(Some(*tag), None, std::slice::from_ref(task))?;
            all.invoke_script(&put).ignore();
        }
        self.call(|connection| all.query::<()>(connection))?;
        let mut leased = self.leased.lock();
        for (tag, _) in &tasks {
            leased.remove(&tag.0);
        }
        Ok(())
    }

    fn beat(&self) -> Result<()> {
        let mine: Vec<String> = {
            let leased = self.leased.lock();
            leased.iter().map(|number| self.tag(Tag(*number))).collect()
        };
        let now: f64 = self.call(|connection| {
            let mut alive = self.scripts.alive.key(INDEX);
            alive.arg(&mine).invoke(connection)
        })?;
        let mut looked = self.looked.lock();
        if looked.is_none_or(|looked| looked.elapsed() > (self.lease / 4).min(5 * PAUSE)) {
            *looked = Some(Instant::now());
            drop(looked);
            self.take_back(now)?;
        }
        Ok(())
    }

    fn lease_time(&self) -> Duration {
        self.lease
    }

    fn waiting(&self, queue: &str) -> Result<u64> {
        self.call(|connection| {
            let mut count: u64 = cmd("ZCARD").arg(later(queue)).query(connection)?;
            for list in wire::lists(queue) {
                count += cmd("LLEN").arg(list).query::<u64>(connection)?;
            }
            Ok(count)
        })
    }

    fn purge(&self, queue: &str) -> Result<u64> {
        let count = self.waiting(queue)?;
        self.call(|connection| {
            let mut all = cmd("DEL");
            all.arg(later(queue)).arg(wire::lists(queue).as_slice());
            all.query::<u64>(connection)
        })?;
        Ok(count)
    }

    fn revoke(&self, revocation: &Revocation) -> Result<()> {
        let body = control_message::revoke(revocation).to_string();
        let message = wire::envelope(
            body.as_bytes(),
            ("application/json", "utf-8"),
            json!({}),
            json!({
                "delivery_mode": 1,
                "delivery_info": { "exchange": control_message::EXCHANGE, "routing_key": "" },
                "priority": 0,
            }),
        );
        self.call(|connection| {
            let mut tell = cmd("PUBLISH");
            tell.arg(&self.listener.all)
                .arg(&message)
                .query::<u64>(connection)
        })
        .map(drop)
    }

    fn revoked(&self) -> Result<Vec<Revocation>> {
        self.listen_for(&self.listener.all)?;
        Ok(self.listener.take_revoked())
    }

    fn seen(&self) -> Seen {
        self.listener.ring.seen()
    }

    fn wait(&self, since: Seen, timeout: Duration) {
        self.listener.wait(since, timeout);
    }

    fn wake(&self) {
        self.listener.ring.ring();
    }
}

impl Redis {
    fn listen_for(&self, channel: &str) -> Result<()> {
        if self.listener.listen_for(channel) {
            self.call(|connection| {
                let mut tell = cmd("PUBLISH");
                tell.arg(&self.listener.own).arg("").query::<u64>(connection)
            })?;
        }
        Ok(())
    }
}

impl Drop for Redis {
    /// Leaves: what it had leased goes back at once.
    fn drop(&mut self) {
        self.listener.close();
        self.leaves = true;
        let left: Vec<i64> = self.leased.get_mut().drain().collect();
        for number in left {
            let tag = self.tag(Tag(number));
            // If that fails, its heartbeat ends, and the others take it back.
            if self.give_back(&tag).is_err() {
                break;
            }
        }
    }
}
