//! Law 2, what tasks say on the way: log lines reach the observers of the pool, from wherever the task ran.

use super::bench::{Bench, submit};
use super::tasks::{talks, talks_below};
use crate::job::JobId;
use crate::observe::{Event, Level, Observer};
use crate::pool::AnyPool;
use parking_lot::Mutex;
use std::sync::Arc;

#[derive(Default)]
struct Heard(Mutex<Vec<(JobId, Level, String)>>);

impl Observer for Heard {
    fn event(&self, event: &Event) {
        if let Event::Log { job, level, text, .. } = event {
            self.0.lock().push((*job, *level, text.clone()));
        }
    }
}

/// A pool with somebody who listens.
fn listened(bench: &Bench<AnyPool>) -> (AnyPool, Arc<Heard>) {
    let (pool, heard) = (bench.pool(), Arc::new(Heard::default()));
    pool.observer(Arc::clone(&heard) as Arc<dyn Observer>);
    (pool, heard)
}

pub(super) fn arrive(bench: &Bench<AnyPool>) {
    let (pool, heard) = listened(bench);
    let handle = submit::<talks>(&pool, (7, 2));
    let id = handle.id();
    assert_eq!(bench.ended(handle), Ok(7));
    assert_eq!(
        *heard.0.lock(),
        [
            (id, Level::Info, "line 0 of 7".to_owned()),
            (id, Level::Info, "line 1 of 7".to_owned())
        ],
        "what a task logged, once it has ended"
    );
    heard.0.lock().clear();
    pool.map::<talks>((0..100).map(|tag| (tag, 1)))
        .expect("a map of tasks that log");
    let texts = |heard: &Heard| {
        let mut texts: Vec<_> = heard.0.lock().drain(..).map(|(.., text)| text).collect();
        texts.sort();
        texts
    };
    let mut expected: Vec<_> = (0..100).map(|tag| format!("line 0 of {tag}")).collect();
    expected.sort();
    assert_eq!(texts(&heard), expected, "what the items of a map logged");
    assert_eq!(bench.ended(submit::<talks_below>(&pool, 3)), Ok(3));
    assert_eq!(texts(&heard), ["line 0 of 3"], "what a child of a task logged");
}

pub(super) fn bounded(bench: &Bench<AnyPool>) {
    const LINES: usize = 20_000;
    let (pool, heard) = listened(bench);
    assert_eq!(bench.ended(submit::<talks>(&pool, (1, LINES as u64))), Ok(1));
    let heard = heard.0.lock();
    let (_, level, last) = heard.last().expect("a task logged");
    if *level == Level::Warn {
        let said = format!("{} more log lines were dropped", LINES + 1 - heard.len());
        assert!(last.starts_with(&said), "{last}");
    } else {
        assert_eq!(
            heard.len(),
            LINES,
            "all the lines, where no note says that some were dropped"
        );
    }
}
