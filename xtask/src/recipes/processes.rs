//! What recipes of processes must show.

use super::checks::numbers;
use crate::command::Observed;

/// The lines in any order, as processes print when they do.
pub(super) fn lines_are(seen: &Observed, expected: &[&str]) -> Result<(), String> {
    let sorted = |mut lines: Vec<&str>| {
        lines.sort_unstable();
        lines.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = sorted(seen.stdout.lines().collect());
    if lines == sorted(expected.to_vec()) {
        Ok(())
    } else {
        Err(format!("other lines than {expected:?}"))
    }
}

pub(super) fn r1_exec(seen: &Observed) -> Result<(), String> {
    let mut lines = seen.stdout.lines();
    match (lines.next(), lines.next_back()) {
        (Some("called"), Some("this process is now another program")) => Ok(()),
        other => Err(format!("first and last line {other:?}")),
    }
}

pub(super) fn r3_spawn(seen: &Observed) -> Result<(), String> {
    let lines: Vec<_> = (0..5)
        .map(|index| format!("called function in process: {index}"))
        .collect();
    lines_are(seen, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn r3_name(seen: &Observed) -> Result<(), String> {
    lines_are(seen, &["this is foo_process", "this is Process-2"])
}

pub(super) fn r3_daemon(seen: &Observed) -> Result<(), String> {
    lines_are(
        seen,
        &[
            "background begins",
            "background starts a process: false",
            "main ends",
            "foreground begins",
            "foreground ends",
        ],
    )
}

pub(super) fn r3_kill(seen: &Observed) -> Result<(), String> {
    lines_are(
        seen,
        &[
            "before: false",
            "running: true",
            "joined: false",
            "exit code: -15",
        ],
    )
}

pub(super) fn r3_subclass(seen: &Observed) -> Result<(), String> {
    let lines: Vec<_> = (0..5)
        .map(|number| format!("MyProcess-{} runs with {number}", number + 1))
        .collect();
    lines_are(seen, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn r3_pool(seen: &Observed) -> Result<(), String> {
    let squares: Vec<u64> = (0..100).map(|i| i * i).collect();
    let mut map_seen = false;
    for line in seen.stdout.lines() {
        let numbers = numbers(line);
        let is_map = line.starts_with("map:");
        if (is_map || numbers.len() >= 100) && numbers != squares {
            return Err(format!("not the squares in order: {line:?}"));
        }
        map_seen |= is_map;
    }
    if map_seen {
        Ok(())
    } else {
        Err("no line `map: ..`".to_owned())
    }
}

pub(super) fn r3_pipe(seen: &Observed) -> Result<(), String> {
    let squares = (0..10).map(|number: u64| (number * number).to_string());
    let lines: Vec<_> = squares.chain(["End".to_owned()]).collect();
    lines_are(seen, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn r3_queue(seen: &Observed) -> Result<(), String> {
    let got = |line: &&str| line.starts_with("first got ") || line.starts_with("second got ");
    let mut items: Vec<_> = seen.stdout.lines().filter(got).flat_map(numbers).collect();
    items.sort_unstable();
    if items != (0..10).collect::<Vec<_>>() {
        return Err(format!("not each of 0 to 9 was got once: {items:?}"));
    }
    for line in ["size 0, empty true", "all tasks are done"] {
        if !seen.stdout.lines().any(|seen| seen == line) {
            return Err(format!("no line {line:?}"));
        }
    }
    Ok(())
}

/// p2 comes to the barrier 300 ms late: p1 passes no earlier than that, and the others have not waited.
pub(super) fn r3_sync(seen: &Observed) -> Result<(), String> {
    let time = |who: &str| {
        let line = seen.stdout.lines().find(|line| line.starts_with(who));
        line.and_then(|line| numbers(line).last().copied())
            .ok_or_else(|| format!("no line of {who}"))
    };
    let (p1, p2) = (time("p1")?, time("p2")?);
    let others = time("p3")?.min(time("p4")?);
    if p1.abs_diff(p2) > 200 || others + 100 > p1.min(p2) {
        return Err(format!(
            "p1 at {p1}, p2 at {p2}, the first of the others at {others}"
        ));
    }
    for line in ["4 lines", "3 done, 0 left", "1 permit free"] {
        if !seen.stdout.lines().any(|seen| seen == line) {
            return Err(format!("no line {line:?}"));
        }
    }
    Ok(())
}

pub(super) fn r3_manager(seen: &Observed) -> Result<(), String> {
    let pairs: Vec<_> = (0..10).map(|key| format!("{key}: {}", 2 * key)).collect();
    lines_are(seen, &[&format!("{{{}}}", pairs.join(", "))])
}
