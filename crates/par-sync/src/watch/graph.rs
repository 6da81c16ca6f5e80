//! The wait-for graph: who holds what, who waits for what, and in which orders locks were taken.
//!
//! 1. It is changed and read under one lock, which its owner (`detector`) has.
//! 2. A hold is entered after the lock was got and taken out before it is given back; a wait is entered before the sleep and taken out
//!    after it. So a wait may be seen that is over already, and a hold may not be seen yet that is about to be.
//! 3. A thread that waits to have a lock alone and whose wait is over has it alone; then nobody else holds it, and no cycle goes
//!    through that wait. A reader's wait that is over is no proof of anything, and a task is held until its callbacks have run, when it may be
//!    done: a cycle through a task, or through a reader other than the caller, must be found again after a while to count.
//! 4. A wait with a deadline ends by itself: no cycle goes through it, but for the caller's, who would surely wait in vain.
//! 5. The first thread of a cycle to wait sees no cycle, and the last sees all of it, as each has entered its holds before.

use super::{Hold, Kind};
use std::collections::{HashMap, HashSet};
use std::panic::Location;

pub(super) type Object = u64;
pub(super) type ThreadNumber = u64;

#[derive(Debug, Clone)]
pub(super) struct Holding {
    pub(super) thread: ThreadNumber,
    pub(super) how: Hold,
    pub(super) times: usize,
    pub(super) place: &'static Location<'static>,
}

#[derive(Debug, Clone)]
pub(super) struct Wait {
    pub(super) number: u64,
    pub(super) object: Object,
    pub(super) how: Hold,
    pub(super) for_ever: bool,
    pub(super) place: &'static Location<'static>,
}

/// One lock was taken while another was held.
#[derive(Debug, Clone)]
struct Order {
    first: &'static Location<'static>,
    then: &'static Location<'static>,
    /// What was held besides: two orders with such a gate in common cannot meet.
    gates: HashSet<Object>,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) names: HashMap<Object, (Kind, String)>,
    pub(super) threads: HashMap<ThreadNumber, String>,
    pub(super) held: HashMap<Object, Vec<Holding>>,
    pub(super) waits: HashMap<ThreadNumber, Wait>,
    orders: HashMap<Object, HashMap<Object, Order>>,
    warned: HashSet<(Object, Object)>,
    next: u64,
}

/// A step of a cycle: a thread, and what it waits for.
pub(super) type Step = (ThreadNumber, Wait);

impl Graph {
    pub(super) fn enter_wait(&mut self, thread: ThreadNumber, mut wait: Wait) {
        self.next += 1;
        wait.number = self.next;
        self.waits.insert(thread, wait);
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
            None => holds.push(Holding {
                thread,
                how,
                times: 1,
                place,
            }),
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
            }
        }
        if holds.is_empty() {
            self.held.remove(&object);
        }
    }

    pub(super) fn forget(&mut self, object: Object) {
        self.names.remove(&object);
        self.held.remove(&object);
        self.orders.remove(&object);
        self.orders.values_mut().for_each(|after| {
            after.remove(&object);
        });
        self.warned.retain(|(a, b)| *a != object && *b != object);
    }

    /// The threads for which a wait waits.
    fn blockers(&self, wait: &Wait) -> Vec<ThreadNumber> {
        let holds = self.held.get(&wait.object).into_iter().flatten();
        match wait.how {
            Hold::Exclusive => holds.map(|hold| hold.thread).collect(),
            // Readers keep no reader out, but writers do, also those that wait.
            Hold::Shared => {
                let writers = holds
                    .filter(|hold| hold.how == Hold::Exclusive)
                    .map(|hold| hold.thread);
                let wanting = self.waits.iter().filter(|(_, other)| {
                    other.object == wait.object && other.how == Hold::Exclusive && other.for_ever
                });
                writers.chain(wanting.map(|(thread, _)| *thread)).collect()
            }
        }
    }

    /// The cycle through the wait of `me`, if there is one; it begins with `me`.
    pub(super) fn cycle(&self, me: ThreadNumber) -> Option<Vec<Step>> {
        let mut path = vec![(me, self.waits.get(&me)?.clone())];
        let mut seen = HashSet::new();
        self.search(me, &mut path, &mut seen).then_some(path)
    }

    fn search(&self, me: ThreadNumber, path: &mut Vec<Step>, seen: &mut HashSet<ThreadNumber>) -> bool {
        let Some((_, wait)) = path.last() else {
            return false;
        };
        for thread in self.blockers(wait) {
            if thread == me {
                return true;
            }
            let Some(next) = self.waits.get(&thread).filter(|next| next.for_ever) else {
                continue;
            };
            if seen.insert(thread) {
                path.push((thread, next.clone()));
                if self.search(me, path, seen) {
                    return true;
                }
                path.pop();
            }
        }
        false
    }

    /// Notes that `thread` took `object` with others in hand. The orders that could meet it, if it is the first to be told of them.
    pub(super) fn order(
        &mut self,
        object: Object,
        thread: ThreadNumber,
        then: &'static Location<'static>,
    ) -> Vec<String> {
        let mine = |holds: &Vec<Holding>| {
            holds
                .iter()
                .find(|hold| hold.thread == thread)
                .map(|hold| hold.place)
        };
        // Who has it does not wait for it.
        if self.held.get(&object).and_then(mine).is_some() {
            return Vec::new();
        }
        let in_hand: Vec<_> = self
            .held
            .iter()
            .filter(|(other, _)| **other != object)
            .filter_map(|(other, holds)| Some((*other, mine(holds)?)))
            .filter(|(other, _)| self.is_lock(*other))
            .collect();
        let mut warnings = Vec::new();
        for (first, place) in &in_hand {
            let gates: HashSet<Object> = in_hand
                .iter()
                .map(|(other, _)| *other)
                .filter(|other| other != first)
                .collect();
            let known = self.orders.entry(*first).or_default().entry(object);
            let order = known.and_modify(|order| order.gates.retain(|gate| gates.contains(gate)));
            order.or_insert_with(|| Order {
                first: place,
                then,
                gates: gates.clone(),
            });
            if self.warned.contains(&(*first, object)) {
                continue;
            }
            let mut path = vec![object];
            let mut seen = HashSet::from([object]);
            if self.leads(object, *first, &gates, &mut path, &mut seen) {
                self.warned.insert((*first, object));
                self.warned.insert((object, *first));
                path.insert(0, *first);
                warnings.push(self.tell_order(&path));
            }
        }
        warnings
    }

    /// Whether locks were taken in an order from the end of the path to `goal`, without a gate in common.
    fn leads(
        &self,
        from: Object,
        goal: Object,
        gates: &HashSet<Object>,
        path: &mut Vec<Object>,
        seen: &mut HashSet<Object>,
    ) -> bool {
        for (next, order) in self.orders.get(&from).into_iter().flatten() {
            if !order.gates.is_disjoint(gates) || !seen.insert(*next) {
                continue;
            }
            path.push(*next);
            if *next == goal || self.leads(*next, goal, gates, path, seen) {
                return true;
            }
            path.pop();
        }
        false
    }

    /// That a thread runs, or runs a task, is no lock, and no news.
    fn is_lock(&self, object: Object) -> bool {
        let kind = self.names.get(&object).map(|(kind, _)| *kind);
        !matches!(kind, Some(Kind::Thread | Kind::Task))
    }

    /// Whether it is a task of a pool.
    pub(super) fn is_task(&self, object: Object) -> bool {
        matches!(self.names.get(&object), Some((Kind::Task, _)))
    }

    fn called(&self, object: Object) -> &str {
        self.names.get(&object).map_or("something", |(_, name)| name)
    }

    fn thread(&self, thread: ThreadNumber) -> &str {
        self.threads.get(&thread).map_or("somebody", String::as_str)
    }

    fn tell_order(&self, path: &[Object]) -> String {
        let mut text = "locks are taken in orders that could meet in a deadlock:".to_owned();
        for pair in path.windows(2) {
            if let Some(order) = self.orders.get(&pair[0]).and_then(|after| after.get(&pair[1])) {
                text += &format!(
                    "\n  {} at {}, then {} at {}",
                    self.called(pair[0]),
                    order.first,
                    self.called(pair[1]),
                    order.then
                );
            }
        }
        text
    }

    /// Who holds and waits for what.
    pub(super) fn tell(&self, title: &str, steps: &[Step]) -> String {
        let mut text = title.to_owned();
        for (thread, wait) in steps {
            text += &format!("\n  thread {:?}", self.thread(*thread));
            for (object, holds) in &self.held {
                for hold in holds.iter().filter(|hold| hold.thread == *thread) {
                    if self.is_lock(*object) {
                        text += &format!(" holds {} since {},", self.called(*object), hold.place);
                    }
                }
            }
            text += &format!(" waits for {}", self.called(wait.object));
            // A wait for a task is entered by the engine, not where it was written.
            if !self.is_task(wait.object) {
                text += &format!(" at {}", wait.place);
            }
        }
        text
    }
}
