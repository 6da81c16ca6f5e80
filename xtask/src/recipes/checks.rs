//! What recipes must show, those of processes apart.

use crate::command::Observed;

pub(super) fn r1_metrics(seen: &Observed) -> Result<(), String> {
    let expected = [
        "Amdahl P=0.9 p=10 5.263",
        "Amdahl P=0.9 p=inf 10.000",
        "Gustafson p=10 alpha=0.1 9.100",
        "refused: a parallel run took -1 seconds: expected a finite time above 0, within range of the serial time",
    ];
    match expected
        .iter()
        .find(|line| !seen.stdout.lines().any(|seen| seen == **line))
    {
        Some(line) => Err(format!("no line {line:?}")),
        None => Ok(()),
    }
}

pub(super) fn r1_mapping(seen: &Observed) -> Result<(), String> {
    let table: Vec<Vec<&str>> = seen
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .collect();
    let column = |name: &str| {
        table
            .iter()
            .find(|row| row.first() == Some(&"mapping"))
            .and_then(|header| header.iter().position(|title| *title == name))
            .ok_or_else(|| format!("no column {name}"))
    };
    let (answer, messages, idle) = (column("answer")?, column("messages")?, column("idle")?);
    let mut answers = Vec::new();
    for mapping in ["block", "cyclic", "dynamic", "hierarchical", "stealing"] {
        let row = table
            .iter()
            .find(|row| row.first() == Some(&mapping))
            .ok_or_else(|| format!("no row {mapping}"))?;
        row.get(messages)
            .and_then(|cell| cell.parse::<u64>().ok())
            .ok_or_else(|| format!("{mapping}: no number of messages"))?;
        row.get(idle).ok_or_else(|| format!("{mapping}: no idle time"))?;
        answers.push(*row.get(answer).ok_or_else(|| format!("{mapping}: no answer"))?);
    }
    if answers.iter().all(|other| *other == answers[0]) {
        Ok(())
    } else {
        Err(format!("different answers: {answers:?}"))
    }
}

pub(super) fn r2_define(seen: &Observed) -> Result<(), String> {
    let mut ends: Vec<u32> = seen
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().last().and_then(|word| word.parse().ok()))
        .collect();
    ends.sort_unstable();
    if ends == [0, 1, 2, 3, 4] {
        Ok(())
    } else {
        Err(format!("lines ended in {ends:?}"))
    }
}

pub(super) fn r5_scoop_mapreduce(seen: &Observed) -> Result<(), String> {
    let count = seen
        .stdout
        .lines()
        .filter(|line| numbers(line).contains(&332_833_500))
        .count();
    if count >= 2 {
        Ok(())
    } else {
        Err(format!("332833500 on {count} lines, not on 2 or more"))
    }
}

pub(super) fn r3_mpi_hello(seen: &Observed) -> Result<(), String> {
    let mut lines: Vec<_> = seen.stdout.lines().collect();
    lines.sort_unstable();
    let expected: Vec<_> = (0..5)
        .map(|rank| format!("hello from rank {rank} of 5"))
        .collect();
    if lines == expected {
        Ok(())
    } else {
        Err(format!("seen {lines:?}, not each rank once"))
    }
}

/// Lines `serial: [results] in 0.123 s`, and the same for threads and processes.
pub(super) fn r4_futures(seen: &Observed) -> Result<(), String> {
    let mut all = Vec::new();
    for how in ["serial", "threads", "processes"] {
        let line = seen
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(how)?.strip_prefix(": "))
            .ok_or_else(|| format!("no line `{how}: ..`"))?;
        let (results, seconds) = line
            .strip_suffix(" s")
            .and_then(|line| line.split_once(" in "))
            .ok_or_else(|| format!("{how}: no time after the results"))?;
        if !seconds.parse::<f64>().is_ok_and(|seconds| seconds >= 0.0) {
            return Err(format!("{how}: {seconds:?} is no time"));
        }
        if numbers(results).len() != 10 {
            return Err(format!("{how}: not ten results: {results}"));
        }
        all.push(results);
    }
    if all.iter().all(|other| *other == all[0]) {
        Ok(())
    } else {
        Err(format!("different results: {all:?}"))
    }
}

pub(super) fn r6_reduction(seen: &Observed) -> Result<(), String> {
    let lines: Vec<_> = seen.stdout.lines().filter(|line| !line.is_empty()).collect();
    match lines.iter().find(|line| !numbers(line).contains(&21_253_400)) {
        None if !lines.is_empty() => Ok(()),
        None => Err("no line".to_owned()),
        Some(line) => Err(format!("not 21253400: {line:?}")),
    }
}

pub(super) fn r6_cl_info(seen: &Observed) -> Result<(), String> {
    let rows = [
        "Platform - ",
        "Device - ",
        "Type: ",
        "Clock Speed: ",
        "Compute Units: ",
        "Local Memory: ",
        "Constant Memory: ",
        "Global Memory: ",
        "Max Allocation: ",
        "Max Work-Group Size: ",
    ];
    match rows.iter().find(|row| !seen.stdout.contains(**row)) {
        None => Ok(()),
        Some(row) => Err(format!("no row {row:?}")),
    }
}

/// The whole numbers of a line, whatever stands between them.
pub(super) fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::processes::r3_pool;
    use super::*;

    fn seen(stdout: &str) -> Observed {
        Observed {
            code: Some(0),
            stdout: stdout.to_owned(),
            stderr: String::new(),
        }
    }

    #[test]
    fn checks_pass_on_what_must_be_seen_and_fail_otherwise() {
        assert!(
            r2_define(&seen(
                "function 3\nfunction 0\nfunction 1\nfunction 2\nfunction 4\ndone"
            ))
            .is_ok()
        );
        assert!(
            r2_define(&seen(
                "function 3\nfunction 0\nfunction 1\nfunction 2\nfunction 3"
            ))
            .is_err()
        );

        let squares = (0..100u64)
            .map(|i| (i * i).to_string())
            .collect::<Vec<_>>()
            .join(" ");
        assert!(r3_pool(&seen(&format!("map: {squares}\nimap: {squares}\napply: 81"))).is_ok());
        assert!(r3_pool(&seen(&format!("imap: {squares}"))).is_err());
        assert!(r3_pool(&seen(&format!("map: {squares}\nimap: 7 {squares}"))).is_err());

        assert!(r5_scoop_mapreduce(&seen("serial 332833500\nmap_reduce 332833500")).is_ok());
        assert!(r5_scoop_mapreduce(&seen("serial 332833500\nmap_reduce 33283350")).is_err());
        assert!(r1_metrics(&seen("Amdahl P=0.9 p=10 5.263")).is_err());

        let rows = |last: &str| {
            format!(
                "mapping answer messages idle\nblock 7 4 0.1\ncyclic 7 4 0.1\ndynamic 7 9 0.1\nhierarchical 7 6 0\nstealing {last}"
            )
        };
        assert!(r1_mapping(&seen(&rows("7 2 0.3"))).is_ok());
        assert!(
            r1_mapping(&seen(&rows("8 2 0.3")))
                .unwrap_err()
                .contains("different")
        );
        assert!(r1_mapping(&seen(&rows("7"))).is_err());
        assert!(r1_mapping(&seen("nothing")).is_err());
    }
}
