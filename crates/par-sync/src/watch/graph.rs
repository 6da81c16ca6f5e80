//! The wait-for graph: who holds what, and who waits for what.
//!
//! 1. It is changed and read under one lock, which its owner (`detector`) has.
//! 2. A hold is entered after the lock was got and taken out before it is given back; a wait is entered before the sleep and taken out
//!    after it. So a wait may be seen that is over already, and a hold may not be seen yet that is about to be.
//! 3. A thread that waits to have a lock alone and whose wait is over has it alone; then nobody else holds it, and no cycle goes
//!    through that wait. A reader's wait that is over is no proof of anything, and a task is held until its callbacks have run, when it may be
//!    done: a cycle through a task, or through a reader other than the caller, must be found again after a while to count.
//! 4. A wait with a deadline ends by itself: no cycle goes through it, but for the caller's, who would surely wait in vain. Who waits at a
//!    condition goes on only with its lock, notified or not, in time or not: it waits for whoever has that lock.
//! 5. The first thread of a cycle to wait sees no cycle, and the last sees all of it, as each has entered its holds before.
//! 6. What a thread held when it ended is never given back.

use super::orders::Orders;
use super::{Hold, Kind};
use std::collections::{HashMap, HashSet};
use std::panic::Location;

pub(super) type Object = u64;
pub(super) type ThreadNumber = u64;

#[derive(Debug, Clone)]
pub(super) struct Holding {
    pub(super) thread: ThreadNumber,
    pub(super) how: Hold,
    times: usize,
    pub(super) place: &'static Location<'static>,
}

#[derive(Debug, Clone)]
pub(super) struct Wait {
    pub(super) number: u64,
    pub(super) object: Object,
    pub(super) how: Hold,
    pub(super) for_ever: bool,
    /// Its thread has not gone to sleep yet: it looks whether all others have.
    pub(super) looks: bool,
    /// The lock that it gave back for its sleep, and must have again.
    pub(super) again: Option<Object>,
    pub(super) place: &'static Location<'static>,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) names: HashMap<Object, (Kind, String)>,
    /// Those that are alive, as far as they are known.
    pub(super) threads: HashMap<ThreadNumber, String>,
    /// Those that ended with something in hand.
    pub(super) ended: HashMap<ThreadNumber, String>,
    pub(super) held: HashMap<Object, Vec<Holding>>,
    in_hand: HashMap<ThreadNumber, Vec<Object>>,
    pub(super) waits: HashMap<ThreadNumber, Wait>,
    /// How many were notified at a condition and have not gone on: they may have to wait for its lock, in their sleep.
    notified: HashMap<Object, usize>,
    pub(super) orders: Orders,
    next: u64,
}

/// A step of a cycle: a thread, and what it waits for.
pub(super) type Step = (ThreadNumber, Wait);

/// Threads each of which waits for the next, and the last for the first; or for one that has ended.
#[derive(Debug, Clone)]
pub(super) struct Cycle {
    pub(super) steps: Vec<Step>,
    pub(super) ended: Option<ThreadNumber>,
}

impl Graph {
    pub(super) fn enter_wait(&mut self, thread: ThreadNumber, mut wait: Wait) {
        self.next += 1;
        wait.number = self.next;
        self.waits.insert(thread, wait);
    }

    pub(super) fn looks(&mut self, thread: ThreadNumber, looks: bool) {
        if let Some(wait) = self.waits.get_mut(&thread) {
            wait.looks = looks;
        }
    }

    pub(super) fn hold(
        &mut self,
        object: Object,
        thread: ThreadNumber,
        how: Hold,
        place: &'static Location<'static>,
    ) {
        let holds = self.held.entry(object).or_default();
        match holds.iter_mut().find(|hold| hold.thread == thread) {
            Some(hold) => hold.times += 1,
            None => {
                holds.push(Holding {
                    thread,
                    how,
                    times: 1,
                    place,
                });
                self.in_hand.entry(thread).or_default().push(object);
            }
        }
    }

    /// What was held before the graph knew of it is not in there.
    pub(super) fn give_back(&mut self, object: Object, thread: ThreadNumber) {
        let Some(holds) = self.held.get_mut(&object) else {
            return;
        };
        if let Some(at) = holds.iter().position(|hold| hold.thread == thread) {
            holds[at].times -= 1;
            if holds[at].times == 0 {
                holds.swap_remove(at);
                if holds.is_empty() {
                    self.held.remove(&object);
                }
                self.let_go(object, thread);
            }
        }
    }

    fn let_go(&mut self, object: Object, thread: ThreadNumber) {
        if let Some(mine) = self.in_hand.get_mut(&thread) {
            mine.retain(|other| *other != object);
            if mine.is_empty() {
                self.in_hand.remove(&thread);
                self.ended.remove(&thread);
            }
        }
    }

    /// The object is no more.
    pub(super) fn forget(&mut self, object: Object) {
        self.names.remove(&object);
        for hold in self.held.remove(&object).unwrap_or_default() {
            self.let_go(object, hold.thread);
        }
        self.notified.remove(&object);
        self.orders.forget(object);
    }

    pub(super) fn notified(&mut self, object: Object, count: usize) {
        if count > 0 {
            *self.notified.entry(object).or_default() += count;
        }
    }

    /// One that was notified goes on.
    pub(super) fn heard(&mut self, object: Object) {
        if let Some(count) = self.notified.get_mut(&object) {
            *count -= 1;
            if *count == 0 {
                self.notified.remove(&object);
            }
        }
    }

    /// The thread is no more. What it takes with it (rule 6), if others wait for that.
    pub(super) fn end(&mut self, thread: ThreadNumber) -> Vec<Cycle> {
        self.waits.remove(&thread);
        let Some(name) = self.threads.remove(&thread) else {
            return Vec::new();
        };
        let Some(mine) = self.in_hand.get(&thread) else {
            return Vec::new();
        };
        let waits = self.waits.iter().filter(|(_, wait)| {
            wait.for_ever
                && mine
                    .iter()
                    .any(|object| wait.object == *object || wait.again == Some(*object))
        });
        let cycles = waits.map(|(waiting, wait)| Cycle {
            steps: vec![(*waiting, wait.clone())],
            ended: Some(thread),
        });
        let cycles = cycles.collect();
        self.ended.insert(thread, name);
        cycles
    }

    /// What a thread holds, and since where.
    pub(super) fn in_hand(
        &self,
        thread: ThreadNumber,
    ) -> impl Iterator<Item = (Object, &'static Location<'static>)> + '_ {
        let mine = self.in_hand.get(&thread).into_iter().flatten();
        mine.filter_map(move |object| {
            let holds = self.held.get(object)?;
            let hold = holds.iter().find(|hold| hold.thread == thread)?;
            Some((*object, hold.place))
        })
    }

    /// The threads for which a wait waits.
    fn blockers(&self, wait: &Wait) -> Vec<ThreadNumber> {
        let holds = |object| self.held.get(&object).into_iter().flatten();
        let mut blockers: Vec<ThreadNumber> = match wait.how {
            Hold::Exclusive => holds(wait.object).map(|hold| hold.thread).collect(),
            // Readers keep no reader out, but writers do, also those that wait.
            Hold::Shared => {
                let writers = holds(wait.object)
                    .filter(|hold| hold.how == Hold::Exclusive)
                    .map(|hold| hold.thread);
                let wanting = self.waits.iter().filter(|(_, other)| {
                    other.object == wait.object && other.how == Hold::Exclusive && other.for_ever
                });
                writers.chain(wanting.map(|(thread, _)| *thread)).collect()
            }
        };
        // Rule 4.
        let again = wait.again.map(holds).into_iter().flatten();
        blockers.extend(again.map(|hold| hold.thread));
        blockers
    }

    /// The cycle through the wait of `me`, if there is one; it begins with `me`.
    pub(super) fn cycle(&self, me: ThreadNumber) -> Option<Cycle> {
        let mut steps = vec![(me, self.waits.get(&me)?.clone())];
        let mut seen = HashSet::new();
        let end = self.search(me, &mut steps, &mut seen)?;
        let ended = (end != me).then_some(end);
        Some(Cycle { steps, ended })
    }

    /// Where the path goes on to `me`, or to a thread that has ended.
    fn search(
        &self,
        me: ThreadNumber,
        path: &mut Vec<Step>,
        seen: &mut HashSet<ThreadNumber>,
    ) -> Option<ThreadNumber> {
        let (_, wait) = path.last()?;
        for thread in self.blockers(wait) {
            if thread == me || self.ended.contains_key(&thread) {
                return Some(thread);
            }
            let next = self.waits.get(&thread);
            let Some(next) = next.filter(|next| next.for_ever || next.again.is_some()) else {
                continue;
            };
            if seen.insert(thread) {
                path.push((thread, next.clone()));
                if let Some(end) = self.search(me, path, seen) {
                    return Some(end);
                }
                path.pop();
            }
        }
        None
    }

    /// Whether no wait that is known ends by itself: none has a deadline, whatever has an owner is known to be held, and nobody was
    /// notified.
    pub(super) fn is_stuck(&self) -> bool {
        let waits = |wait: &Wait| {
            let owned = matches!(self.kind(wait.object), Some(kind) if kind.has_owner());
            wait.for_ever && (!owned || self.held.contains_key(&wait.object))
        };
        !self.waits.is_empty() && self.notified.is_empty() && self.waits.values().all(waits)
    }

    fn kind(&self, object: Object) -> Option<Kind> {
        self.names.get(&object).map(|(kind, _)| *kind)
    }

    /// That a thread runs, or runs a task, is no lock, and no news.
    pub(super) fn is_lock(&self, object: Object) -> bool {
        !matches!(self.kind(object), Some(Kind::Thread | Kind::Task))
    }

    /// Whether it is a task of a pool.
    pub(super) fn is_task(&self, object: Object) -> bool {
        self.kind(object) == Some(Kind::Task)
    }

    /// All waits, by thread.
    pub(super) fn waiting(&self) -> Vec<Step> {
        let waits = self.waits.iter().map(|(thread, wait)| (*thread, wait.clone()));
        let mut steps: Vec<Step> = waits.collect();
        steps.sort_by_key(|(thread, _)| *thread);
        steps
    }
}
