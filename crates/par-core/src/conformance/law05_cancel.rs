//! Law 5: what is pending never starts, what runs sees its token, and what can be killed is.

use super::bench::{Bench, Check, can, submit};
use super::folder::Folder;
use super::tasks::{double, gate, mark, stubborn};
use crate::error::TaskError;
use crate::handle::TaskState;
use crate::pool::AnyPool;
use std::time::Duration;

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("a pending task never starts", pending),
    ("a running task sees its token", running),
    ("a killed task frees its worker", killed),
    ("cancelling what has ended changes nothing", ended),
];

/// How many of 200 tasks may be delivered just when they are cancelled.
const RACES: usize = 10;

fn pending(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "nothing is ever pending") {
        return;
    }
    let folder = Folder::new();
    let gates = bench.occupy(&pool, &folder);
    let handles: Vec<_> = (0..200)
        .map(|tag| submit::<mark>(&pool, (folder.path(), tag)))
        .collect();
    let mut raced = 0;
    for handle in &handles {
        let pending = handle.state() == TaskState::Pending;
        let certain = handle.cancel();
        assert!(
            !certain || handle.is_done(),
            "it is certain that a task does not start, and it has not ended"
        );
        // A worker may have got it in between; but then somebody has it, and that does not happen often.
        let doubtful = pending && !certain;
        raced += usize::from(doubtful);
        assert!(
            !doubtful || (handle.state() != TaskState::Pending && raced <= RACES),
            "a pending task was cancelled, and that it will not start is not certain"
        );
    }
    // What was delivered already is called back; an engine has this long for it.
    bench.within(Duration::from_secs(1), || {
        handles.iter().all(|handle| handle.is_done())
    });
    bench.release(&folder, gates);
    for handle in handles {
        assert_eq!(bench.ended(handle), Err(TaskError::Cancelled));
    }
    assert_eq!(
        bench.ended(submit::<mark>(&pool, (folder.path(), 1000))),
        Ok(1000)
    );
    assert_eq!(
        folder.lines("marks"),
        ["1000"],
        "tasks that started, all cancelled before but the last"
    );
}

fn running(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "nobody can cancel what runs") {
        return;
    }
    let folder = Folder::new();
    for tag in 0..3 {
        let handle = submit::<gate>(&pool, (folder.path(), tag));
        bench.until("the task begins", || folder.count_of("gates", tag) == 1);
        assert!(
            !handle.cancel(),
            "a task that runs cannot be certain not to have begun"
        );
        assert_eq!(
            bench.ended(handle),
            Err(TaskError::Cancelled),
            "a running task whose token is up"
        );
        bench.until("it saw its token", || folder.count_of("gates ended", tag) == 1);
    }
}

fn killed(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "nobody can kill what runs") {
        return;
    }
    let folder = Folder::new();
    let handle = submit::<stubborn>(&pool, (folder.path(), 0));
    bench.until("the task begins", || folder.count_of("gates", 0) == 1);
    handle.kill();
    assert_eq!(
        bench.ended(handle),
        Err(TaskError::Cancelled),
        "a task that was killed"
    );
    if !can(&pool).kill {
        bench.weaker(
            &pool,
            "a running task cannot be ended by force (capability kill), so its worker is not free",
        );
        return;
    }
    let gates = bench.occupy(&pool, &folder);
    bench.release(&folder, gates);
    assert_eq!(
        folder.count_of("gates ended", 0),
        0,
        "the killed task ran to its end"
    );
}

fn ended(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let handle = submit::<double>(&pool, 4);
    bench.until("a task ends", || handle.is_done());
    assert!(
        !handle.cancel(),
        "a task that has ended cannot be certain not to have begun"
    );
    handle.kill();
    assert_eq!(
        bench.ended(handle),
        Ok(8),
        "a task that was cancelled after its end"
    );
}
