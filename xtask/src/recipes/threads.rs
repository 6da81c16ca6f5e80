//! What the recipes of threads must show.

use crate::command::Observed;

/// The numbers of the lines that hold `text`.
fn lines_with(seen: &Observed, text: &str) -> Vec<usize> {
    let lines = seen.stdout.lines().enumerate();
    lines
        .filter(|(_, line)| line.contains(text))
        .map(|(at, _)| at)
        .collect()
}

fn expect(seen: &Observed, text: &str, times: usize) -> Result<(), String> {
    let count = lines_with(seen, text).len();
    if count == times {
        Ok(())
    } else {
        Err(format!("{count} lines with {text:?}, {times} expected"))
    }
}

pub(super) fn require(holds: bool, what: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| what.to_owned())
}

/// The first number of the line that begins with `text`.
fn number_after(seen: &Observed, text: &str) -> Result<i64, String> {
    let line = seen.stdout.lines().find_map(|line| line.strip_prefix(text));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| format!("no number after {text:?}"))
}

pub(super) fn r1_thread(seen: &Observed) -> Result<(), String> {
    expect(seen, "Hello from the main thread", 1)?;
    expect(seen, "Hello from Thread-", 10)?;
    require(
        seen.stdout.starts_with("Hello from the main thread"),
        "main speaks first",
    )
}

pub(super) fn r2_current(seen: &Observed) -> Result<(), String> {
    for name in ["first", "second", "Thread-"] {
        let of = |what: &str| {
            let line = |line: &str| line.starts_with(name) && line.ends_with(what);
            seen.stdout.lines().filter(|seen| line(seen)).count()
        };
        require(of(" starting") == 1 && of(" exiting") == 1, name)?;
    }
    let (starts, exits) = (lines_with(seen, "starting"), lines_with(seen, "exiting"));
    require(
        starts == [0, 1, 2] && exits == [3, 4, 5],
        "all start before one exits",
    )
}

pub(super) fn r2_subclass(seen: &Observed) -> Result<(), String> {
    for name in ["quick", "slow"] {
        let own = seen.stdout.lines().filter_map(|line| line.strip_prefix(name));
        let expected = [
            " starts", " tick 1", " tick 2", " tick 3", " tick 4", " tick 5", " exits",
        ];
        require(own.eq(expected), &format!("the lines of {name}"))?;
    }
    Ok(())
}

pub(super) fn r2_lock(seen: &Observed) -> Result<(), String> {
    require(
        number_after(seen, "with the lock: ")? == 0,
        "with the lock it is 0",
    )?;
    require(number_after(seen, "without: ")? != 0, "without it is not")
}

pub(super) fn r2_rlock(seen: &Observed) -> Result<(), String> {
    expect(seen, "1 item added, depth 1", 5)?;
    expect(seen, "1 item removed, depth 1", 5)?;
    expect(seen, "0 items left", 1)
}

pub(super) fn r2_semaphore(seen: &Observed) -> Result<(), String> {
    for round in 1..=5 {
        let produced = lines_with(seen, &format!("produced {}", round * 7));
        let consumed = lines_with(seen, &format!("consumed {}", round * 7));
        let in_order = matches!((&produced[..], &consumed[..]), ([before], [after]) if before < after);
        require(in_order, &format!("round {round}"))?;
    }
    expect(seen, "at most 1 inside", 1)?;
    expect(seen, "refused: 1 permits given back", 1)
}

pub(super) fn r2_condition(seen: &Observed) -> Result<(), String> {
    expect(seen, "produced, ", 20)?;
    expect(seen, "consumed, ", 20)?;
    let mut inside = 0;
    for line in seen.stdout.lines().filter(|line| line.ends_with("in the buffer")) {
        inside += if line.starts_with("produced") { 1 } else { -1 };
        require((0..=10).contains(&inside), "between 0 and 10")?;
        require(line.contains(&format!(", {inside} in")), line)?;
    }
    expect(seen, "0 left", 1)
}

pub(super) fn r2_event(seen: &Observed) -> Result<(), String> {
    let expected = (0..10).map(|item| format!("consumed {item}"));
    require(seen.stdout.lines().eq(expected), "0 to 9, in order")
}

pub(super) fn r2_with(seen: &Observed) -> Result<(), String> {
    for lock in ["lock", "rlock", "condition", "semaphore"] {
        for how in ["for a scope", "by a call"] {
            let line = format!("{lock} acquired {how}");
            let count = seen.stdout.lines().filter(|seen| **seen == line).count();
            require(count == 1, &line)?;
        }
    }
    expect(seen, "after a panic all are free: true", 1)
}

pub(super) fn r2_queue(seen: &Observed) -> Result<(), String> {
    for item in 0..12 {
        let ending = format!(" got item {item}");
        let count = seen.stdout.lines().filter(|line| line.ends_with(&ending)).count();
        require(count == 1, &ending)?;
    }
    expect(seen, "all items are done, 0 unfinished", 1)?;
    let done = lines_with(seen, "all items are done");
    require(
        lines_with(seen, " got item ").last() < done.first(),
        "join comes last",
    )?;
    expect(seen, "get: the queue is empty", 2)?;
    expect(seen, "put: the queue is full", 1)?;
    expect(seen, "put: the queue is shut down", 1)?;
    expect(
        seen,
        "task_done: task_done was called more often than there were items",
        1,
    )
}

pub(super) fn r2_evaluate(seen: &Observed) -> Result<(), String> {
    let row = |name: &str| -> Result<Vec<f64>, String> {
        let line = seen.stdout.lines().find(|line| line.starts_with(name));
        let cells = line
            .ok_or_else(|| format!("no row {name}"))?
            .split_whitespace()
            .skip(1);
        cells
            .map(|cell| cell.parse().map_err(|_| format!("{name}: {cell:?} is no number")))
            .collect()
    };
    require(row("threads")? == [1.0, 2.0, 4.0, 8.0], "the numbers of threads")?;
    for name in ["nothing", "cpu", "file", "network"] {
        let ratios = row(name)?;
        require(ratios.len() == 4 && ratios.iter().all(|ratio| *ratio > 0.0), name)?;
    }
    require(
        row("nothing")?.iter().all(|ratio| *ratio > 1.0),
        "threads cost something",
    )?;
    // Waiting side by side: eight take about as long as one.
    require(row("network")?[3] < 0.6, "threads wait side by side")
}

pub(super) fn r5_csp(seen: &Observed) -> Result<(), String> {
    let numbers = seen.stdout.lines().filter_map(|line| line.parse::<u32>().ok());
    require(numbers.eq(0..5), "0 to 4, in order")?;
    let of_counter: Vec<&str> = seen
        .stdout
        .lines()
        .filter(|line| line.starts_with("trace "))
        .collect();
    let kinds = [
        "BlockOnWrite",
        "DoneWrite",
        "Poison",
        "QuitProcess",
        "StartProcess",
    ];
    let kind = |line: &str| {
        kinds
            .into_iter()
            .find(|kind| line.contains(&format!("\"{kind}\"")))
    };
    let what: Vec<&str> = of_counter.iter().filter_map(|line| kind(line)).collect();
    require(
        what.first() == Some(&"StartProcess"),
        "the trace begins with the process",
    )?;
    require(
        what.ends_with(&["DoneWrite", "Poison", "QuitProcess"]),
        "and ends with it, by a poison",
    )?;
    let writes = what.iter().filter(|what| **what == "DoneWrite").count();
    require(writes == 5, "five writes")?;
    // Who blocks is done later, and before it blocks again.
    let blocks = what.windows(2).filter(|pair| pair[0] == "BlockOnWrite");
    require(
        blocks.into_iter().all(|pair| pair[1] == "DoneWrite"),
        "a write that blocks is done next",
    )?;
    for (name, total) in [
        ("One2One", 55),
        ("One2Any", 55),
        ("Any2One", 165),
        ("Any2Any", 165),
    ] {
        expect(seen, &format!("{name}: {total}"), 1)?;
    }
    expect(seen, "chosen: left", 1)?;
    expect(seen, "chosen: right", 1)
}
