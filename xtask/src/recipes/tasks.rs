//! What the recipes of the task queue must show.

use super::threads::require;
use crate::command::Observed;

pub(super) fn r5_celery_worker(seen: &Observed) -> Result<(), String> {
    for (name, value) in [
        ("app:", "proj"),
        ("broker:", "memory:"),
        ("results:", "memory:"),
        ("concurrency:", "4"),
    ] {
        let line = seen.stdout.lines().find(|line| line.starts_with(name));
        require(
            line.is_some_and(|line| line.contains(value)),
            &format!("{name} {value}"),
        )?;
    }
    for entry in ["celery", "proj.tasks.add", "proj.tasks.mul"] {
        let entry = format!(". {entry}");
        require(seen.stdout.lines().any(|line| line.trim() == entry), &entry)?;
    }
    require(seen.stdout.ends_with("proj ready.\n"), "ready in the end")
}

pub(super) fn r5_celery_add(seen: &Observed) -> Result<(), String> {
    require(seen.stdout == "10\n10\n", "10, and 10 with options")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_seen() {
        let seen = |text: &str| Observed {
            code: Some(0),
            stdout: text.to_owned(),
            stderr: String::new(),
        };
        assert!(r5_celery_add(&seen("10\n10\n")).is_ok());
        assert!(r5_celery_add(&seen("10\n11\n")).is_err());
        let banner = "app:         proj\nbroker:      memory:\nresults:     memory:\nconcurrency: 4 (threads)\n[queues]\n  . celery\n\
                      [tasks]\n  . proj.tasks.add\n  . proj.tasks.mul\nproj ready.\n";
        assert_eq!(r5_celery_worker(&seen(banner)), Ok(()));
        assert!(r5_celery_worker(&seen(&banner.replace("  . celery\n", ""))).is_err());
        assert!(r5_celery_worker(&seen(&banner.replace("ready", "read"))).is_err());
    }
}
