//! Plans: how the parts of a job are grouped into chunks and given to workers.

use crate::error::TaskError;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// How many parts a worker claims at a time (agglomeration).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChunkPlan {
    /// A share that keeps every worker busy with a few claims: `parts / (16 * workers)`, at least 1.
    #[default]
    Auto,
    /// Always this many; at least 1.
    Fixed(usize),
    /// Half of an equal share of what is left, and not less than this; at least 1 (guided self-scheduling,
    /// Polychronopoulos and Kuck, 1987).
    Guided(usize),
}

/// Who gets which chunk.
///
/// The static mappings need an engine that knows its workers by index (capability
/// [`placement`](crate::Capabilities::placement)); other engines run them as `Dynamic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mapping {
    /// Manager and workers: whoever is free takes the next chunk.
    #[default]
    Dynamic,
    /// Each worker gets one contiguous block.
    StaticBlock,
    /// Chunk `i` goes to worker `i` modulo the number of workers.
    Cyclic,
    /// Groups of workers, each with a manager that fetches a large chunk from the top and deals it out. At least 1 group.
    Hierarchical {
        /// Number of groups.
        groups: usize,
    },
    /// Each worker starts with its block; whoever runs dry steals half of another's rest.
    Stealing,
}

/// Everything that a pool may be told about how to run a job. `Plan::default()` suits most.
///
/// ```
/// use par_core::{ChunkPlan, Mapping, Plan};
/// let plan = Plan::default().chunk(ChunkPlan::Fixed(256)).mapping(Mapping::Cyclic);
/// assert_eq!(plan.chunk_plan(), ChunkPlan::Fixed(256));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    chunk: ChunkPlan,
    mapping: Mapping,
    leaf: usize,
    window: usize,
    timeout: Option<Duration>,
    attempts: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            chunk: ChunkPlan::Auto,
            mapping: Mapping::Dynamic,
            leaf: crate::fold::LEAF,
            window: 1 << 16,
            timeout: None,
            attempts: 3,
        }
    }
}

impl Plan {
    /// Sets how many parts are claimed at a time.
    pub fn chunk(mut self, chunk: ChunkPlan) -> Self {
        self.chunk = chunk;
        self
    }

    /// Sets who gets which chunk.
    pub fn mapping(mut self, mapping: Mapping) -> Self {
        self.mapping = mapping;
        self
    }

    /// Sets the number of items in a leaf of a reduction. Other leaves give other bits of a floating-point sum.
    pub fn leaf(mut self, items: usize) -> Self {
        self.leaf = items;
        self
    }

    /// Sets how many items a streaming form may have read and not yet handed on.
    pub fn window(mut self, items: usize) -> Self {
        self.window = items;
        self
    }

    /// Sets the deadline of each submitted job, counted from its submission.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how often an idempotent task is delivered before its loss is reported; at least 1, default 3.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// How many parts are claimed at a time.
    pub fn chunk_plan(&self) -> ChunkPlan {
        self.chunk
    }

    pub(crate) fn leaf_items(&self) -> usize {
        self.leaf
    }

    pub(crate) fn window_items(&self) -> usize {
        self.window
    }

    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn attempt_limit(&self) -> u32 {
        self.attempts
    }

    /// Refuses what no job could run by.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), TaskError> {
        let bad = |what: &str| Err(TaskError::Rejected(format!("{what} must be at least 1, got 0")));
        match (self.chunk, self.mapping) {
            (ChunkPlan::Fixed(0) | ChunkPlan::Guided(0), _) => return bad("the chunk size of the plan"),
            (_, Mapping::Hierarchical { groups: 0 }) => return bad("the number of groups of the plan"),
            _ => {}
        }
        match (self.leaf, self.window, self.attempts) {
            (0, _, _) => bad("the leaf size of the plan"),
            (_, 0, _) => bad("the window of the plan"),
            (_, _, 0) => bad("the number of attempts of the plan"),
            _ => Ok(()),
        }
    }

    /// The number of parts in a usual claim.
    pub(crate) fn chunk_size(&self, parts: usize, workers: usize) -> usize {
        match self.chunk {
            ChunkPlan::Auto => (parts / (16 * workers.max(1))).max(1),
            ChunkPlan::Fixed(size) | ChunkPlan::Guided(size) => size.max(1),
        }
    }
}

/// Who asks for a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimant {
    /// A worker of an engine that honours static mappings.
    Worker(usize),
    /// Anyone: gets whatever is left, also of another's share.
    Any,
}

/// The unclaimed parts of a job. Each part is handed out once.
pub(crate) struct Schedule {
    parts: usize,
    chunk: usize,
    kind: Kind,
}

/// A number that all workers write: no other data may share its cache line (two of them, as processors fetch pairs).
#[repr(align(128))]
struct Alone(AtomicUsize);

enum Kind {
    /// One part, or none.
    Single(AtomicUsize),
    Dynamic(Box<Alone>),
    Guided {
        next: AtomicUsize,
        workers: usize,
    },
    /// Number of chunks that each worker has taken of its own: chunks w, w + workers, ...
    Cyclic(Box<[AtomicUsize]>),
    /// What is left of each worker's block; stolen from by the others where `steal` says so.
    Blocks {
        blocks: Mutex<Vec<Range<usize>>>,
        steal: bool,
    },
    Groups {
        top: AtomicUsize,
        groups: Box<[Mutex<Range<usize>>]>,
    },
}

impl Schedule {
    /// A schedule of one part.
    pub(crate) fn single() -> Self {
        Schedule {
            parts: 1,
            chunk: 1,
            kind: Kind::Single(AtomicUsize::new(0)),
        }
    }

    pub(crate) fn new(plan: &Plan, parts: usize, chunk: usize, workers: usize) -> Self {
        let workers = workers.max(1);
        let blocks = || {
            Mutex::new(
                (0..workers)
                    .map(|w| parts * w / workers..parts * (w + 1) / workers)
                    .collect(),
            )
        };
        let kind = match (plan.mapping, plan.chunk) {
            (Mapping::Dynamic, ChunkPlan::Guided(_)) => Kind::Guided {
                next: AtomicUsize::new(0),
                workers,
            },
            (Mapping::Dynamic, _) => Kind::Dynamic(Box::new(Alone(AtomicUsize::new(0)))),
            (Mapping::StaticBlock, _) => Kind::Blocks {
                blocks: blocks(),
                steal: false,
            },
            (Mapping::Stealing, _) => Kind::Blocks {
                blocks: blocks(),
                steal: true,
            },
            (Mapping::Cyclic, _) => Kind::Cyclic((0..workers).map(|_| AtomicUsize::new(0)).collect()),
            (Mapping::Hierarchical { groups }, _) => Kind::Groups {
                top: AtomicUsize::new(0),
                groups: (0..groups.clamp(1, workers)).map(|_| Mutex::new(0..0)).collect(),
            },
        };
        Schedule { parts, chunk, kind }
    }

    /// The next range for `who`, or nothing if there is none left for it.
    #[inline]
    pub(crate) fn next(&self, who: Claimant) -> Option<Range<usize>> {
        match &self.kind {
            Kind::Single(next) => self.advance(next, 1),
            Kind::Dynamic(next) => self.advance(&next.0, self.chunk),
            _ => self.next_mapped(who),
        }
    }

    /// As [`next`](Self::next), where that takes more than one step.
    fn next_mapped(&self, who: Claimant) -> Option<Range<usize>> {
        match &self.kind {
            Kind::Single(_) | Kind::Dynamic(_) => None,
            Kind::Guided { next, workers } => {
                let left = self.parts.saturating_sub(next.load(Ordering::Relaxed));
                self.advance(next, (left / (2 * workers)).max(self.chunk))
            }
            Kind::Cyclic(taken) => match who {
                Claimant::Worker(w) => self.cyclic(taken, w % taken.len()),
                Claimant::Any => (0..taken.len()).find_map(|w| self.cyclic(taken, w)),
            },
            Kind::Blocks { blocks, steal } => {
                let blocks = &mut *blocks.lock();
                let index = match who {
                    Claimant::Worker(w) => {
                        let own = w % blocks.len();
                        if blocks[own].is_empty() && *steal {
                            steal_into(blocks, own);
                        }
                        own
                    }
                    Claimant::Any => blocks.iter().position(|block| !block.is_empty())?,
                };
                take_front(&mut blocks[index], self.chunk)
            }
            Kind::Groups { top, groups } => match who {
                Claimant::Worker(w) => self.deal_group(top, &groups[w % groups.len()]),
                Claimant::Any => groups.iter().find_map(|group| self.deal_group(top, group)),
            },
        }
    }

    /// Whether each worker has a share that no other worker takes.
    pub(crate) fn is_static(&self) -> bool {
        matches!(self.kind, Kind::Cyclic(_) | Kind::Blocks { steal: false, .. })
    }

    /// Whether nothing is left after a range that was just handed out; without another look at what all workers write, where the
    /// range itself says so.
    pub(crate) fn ends_with(&self, range: &Range<usize>) -> bool {
        match &self.kind {
            Kind::Single(_) | Kind::Dynamic(_) | Kind::Guided { .. } => range.end == self.parts,
            _ => self.left() == 0,
        }
    }

    /// Parts that nobody has claimed yet.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        match &self.kind {
            Kind::Single(next) => self.rest(next),
            Kind::Dynamic(next) => self.rest(&next.0),
            _ => self.left_mapped(),
        }
    }

    #[inline]
    fn rest(&self, next: &AtomicUsize) -> usize {
        self.parts.saturating_sub(next.load(Ordering::Acquire))
    }

    fn left_mapped(&self) -> usize {
        match &self.kind {
            Kind::Single(_) | Kind::Dynamic(_) => 0,
            Kind::Guided { next, .. } => self.rest(next),
            Kind::Cyclic(taken) => {
                let workers = taken.len();
                (0..workers)
                    .map(|w| self.cyclic_left(w, workers, taken[w].load(Ordering::Acquire)))
                    .sum()
            }
            Kind::Blocks { blocks, .. } => blocks.lock().iter().map(Range::len).sum(),
            Kind::Groups { top, groups } => {
                self.rest(top) + groups.iter().map(|group| group.lock().len()).sum::<usize>()
            }
        }
    }

    fn advance(&self, next: &AtomicUsize, by: usize) -> Option<Range<usize>> {
        // No more than there is, and taken back past the end, so that a cursor that many poll cannot wrap around. To look first
        // would fetch the cache line twice.
        let by = by.min(self.parts);
        let start = next.fetch_add(by, Ordering::AcqRel);
        if start >= self.parts {
            next.fetch_sub(by, Ordering::Relaxed);
            return None;
        }
        Some(start..self.parts.min(start.saturating_add(by)))
    }

    fn cyclic(&self, taken: &[AtomicUsize], worker: usize) -> Option<Range<usize>> {
        let turn = &taken[worker];
        let start_of =
            |turn: usize| (turn.checked_mul(taken.len())?.checked_add(worker)?).checked_mul(self.chunk);
        start_of(turn.load(Ordering::Relaxed)).filter(|start| *start < self.parts)?;
        let start = start_of(turn.fetch_add(1, Ordering::AcqRel))?;
        (start < self.parts).then(|| start..self.parts.min(start.saturating_add(self.chunk)))
    }

    fn cyclic_left(&self, worker: usize, workers: usize, taken: usize) -> usize {
        (taken..)
            .map(|turn| (turn * workers + worker) * self.chunk)
            .take_while(|start| *start < self.parts)
            .map(|start| self.chunk.min(self.parts - start))
            .sum()
    }

    fn deal_group(&self, top: &AtomicUsize, group: &Mutex<Range<usize>>) -> Option<Range<usize>> {
        let mut rest = group.lock();
        if rest.is_empty() {
            *rest = self.advance(top, self.chunk.saturating_mul(8))?;
        }
        take_front(&mut rest, self.chunk)
    }
}

fn take_front(rest: &mut Range<usize>, most: usize) -> Option<Range<usize>> {
    let start = rest.start;
    rest.start = rest.end.min(start.saturating_add(most));
    (start < rest.start).then_some(start..rest.start)
}

/// Gives an empty-handed worker the far half of the longest block; its owner goes on with the near one.
fn steal_into(blocks: &mut [Range<usize>], thief: usize) {
    if let Some(victim) = (0..blocks.len()).max_by_key(|w| blocks[*w].len()) {
        let middle = blocks[victim].start + blocks[victim].len() / 2;
        blocks[thief] = middle..blocks[victim].end;
        if victim != thief {
            blocks[victim].end = middle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPINGS: [Mapping; 5] = [
        Mapping::Dynamic,
        Mapping::StaticBlock,
        Mapping::Cyclic,
        Mapping::Hierarchical { groups: 2 },
        Mapping::Stealing,
    ];

    #[test]
    fn every_part_is_handed_out_once_under_every_mapping() {
        for mapping in MAPPINGS {
            for chunk in [ChunkPlan::Auto, ChunkPlan::Fixed(7), ChunkPlan::Guided(2)] {
                for parts in [0, 1, 5, 100, 1013] {
                    let plan = Plan::default().mapping(mapping).chunk(chunk);
                    let schedule = Schedule::new(&plan, parts, plan.chunk_size(parts, 3), 3);
                    let mut seen = vec![0; parts];
                    let mut left = parts;
                    let mut idle = 0;
                    let mut worker = 0;
                    while idle < 3 {
                        assert_eq!(schedule.left(), left, "{mapping:?} {chunk:?}");
                        match schedule.next(Claimant::Worker(worker)) {
                            Some(range) => {
                                left -= range.len();
                                idle = 0;
                                range.for_each(|part| seen[part] += 1);
                            }
                            None => idle += 1,
                        }
                        worker = (worker + 1) % 3;
                    }
                    assert!(
                        seen.iter().all(|count| *count == 1),
                        "{mapping:?} {chunk:?} {parts}: {seen:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn anyone_may_take_what_a_static_mapping_left() {
        for mapping in MAPPINGS {
            let plan = Plan::default().mapping(mapping).chunk(ChunkPlan::Fixed(3));
            let schedule = Schedule::new(&plan, 20, 3, 4);
            let mut taken = 0;
            while let Some(range) = schedule.next(Claimant::Any) {
                taken += range.len();
            }
            assert_eq!(taken, 20, "{mapping:?}");
        }
    }

    #[test]
    fn a_chunk_of_zero_is_refused_with_a_reason() {
        let error = Plan::default()
            .chunk(ChunkPlan::Fixed(0))
            .check()
            .expect_err("zero");
        assert_eq!(
            error.to_string(),
            "task was rejected: the chunk size of the plan must be at least 1, got 0"
        );
    }
}
