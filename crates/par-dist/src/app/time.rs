//! Times: as they are written in messages, and whether that of a task has come.

use jiff::Timestamp;
use std::time::Duration;

/// How much, in milliseconds, clocks and ways differ by.
const MOMENT: i64 = 8;

/// A time from now, as far as times go.
pub(super) fn from_now(time: Duration) -> Timestamp {
    Timestamp::now().checked_add(time).unwrap_or(Timestamp::MAX)
}

/// A time as Celery writes it, ISO 8601; without an offset it is UTC.
pub(super) fn read_time(text: &str) -> Option<Timestamp> {
    let civil = || {
        let time: jiff::civil::DateTime = text.parse().ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    text.parse().ok().or_else(civil)
}

/// A time as Celery reads it.
pub(super) fn write_time(time: Timestamp) -> String {
    // With an offset of digits: older parsers of Python do not know `Z`.
    time.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

/// A time in milliseconds, as brokers keep it: the first of them by which it has come.
pub(super) fn due(at: Timestamp) -> i64 {
    millis_until(at, Timestamp::UNIX_EPOCH)
}

/// How long it is until a time, in whole milliseconds that are not too few.
pub(super) fn millis_until(at: Timestamp, now: Timestamp) -> i64 {
    (at.as_microsecond() - now.as_microsecond())
        .saturating_add(999)
        .div_euclid(1000)
}

/// Until when a task waits, with how long it has to still by those who kept it, if they say so; not at all if its time has come.
pub(super) fn waits_until(eta: Timestamp, left: Option<i64>, now: Timestamp) -> Option<Timestamp> {
    let by_clock = millis_until(eta, now);
    let left = left.map_or(by_clock, |left| left.min(by_clock));
    // So little is within what clocks and ways differ by, unless it is all that is left.
    let is_due = by_clock <= 0 || (left < MOMENT && by_clock > MOMENT);
    (!is_due).then(|| {
        let left = Duration::from_millis(left.max(1).unsigned_abs());
        now.checked_add(left).unwrap_or(Timestamp::MAX).min(eta)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_celery_writes_them() {
        for (text, same) in [
            ("2026-11-25T17:00:10+00:00", "2026-11-25T17:00:10.000000+00:00"),
            ("2026-11-25T18:00:10.5+01:00", "2026-11-25T17:00:10.500000+00:00"),
            ("2026-11-25T17:00:10", "2026-11-25T17:00:10.000000+00:00"),
            ("2026-11-25T17:00:10Z", "2026-11-25T17:00:10.000000+00:00"),
        ] {
            assert_eq!(write_time(read_time(text).expect(text)), same);
        }
        assert_eq!(read_time("tomorrow"), None);
    }

    #[test]
    fn a_task_waits_as_long_as_the_clock_and_those_who_kept_it_say() {
        let now: Timestamp = "2026-11-25T17:00:10Z".parse().expect("a time");
        let after = |millis: i64| now + Duration::from_millis(millis.unsigned_abs());
        let before = now - Duration::from_secs(1);
        assert_eq!(waits_until(after(500), None, now), Some(after(500)));
        assert_eq!(waits_until(before, Some(500), now), None);
        // The clock is behind, or it took long to come here.
        assert_eq!(waits_until(after(3_600_000), Some(500), now), Some(after(500)));
        assert_eq!(waits_until(after(200), Some(500), now), Some(after(200)));
        // Kept long enough; not so by a hair.
        assert_eq!(waits_until(after(3_600_000), Some(0), now), None);
        assert_eq!(waits_until(after(5), Some(0), now), Some(after(1)));
        // Not before its time, be it by less than a millisecond.
        let soon = now + Duration::from_micros(10);
        assert_eq!(waits_until(soon, None, now), Some(soon));
        assert_eq!(due(soon), due(now) + 1);
        assert_eq!((millis_until(soon, now), millis_until(now, soon)), (1, 0));
    }
}
