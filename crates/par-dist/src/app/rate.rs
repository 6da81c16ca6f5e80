//! [`Rate`]: how often a worker begins a task at most, as text (`100/m`), and the bucket that counts it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How often something happens at most: `10/s`, `100/m`, `1000/h`, or a number, which is by the second. As text it is the same.
///
/// ```
/// use par_dist::app::Rate;
///
/// let rate: Rate = "90/m".parse()?;
/// assert_eq!(rate.a_second(), 1.5);
/// assert!("often".parse::<Rate>().unwrap_err().to_string().contains("10/s"));
/// # Ok::<(), par_dist::app::RateError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    count: f64,
    per: char,
}

/// A text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rate such as 10/s, 100/m or 1000/h is expected, got {0:?}")]
pub struct RateError(String);

impl Rate {
    /// How often by the second.
    pub fn a_second(&self) -> f64 {
        self.count
            / match self.per {
                'h' => 3600.0,
                'm' => 60.0,
                _ => 1.0,
            }
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let bad = || RateError(text.to_owned());
        let (count, per) = text.split_once('/').unwrap_or((text, "s"));
        let count: f64 = count.trim().parse().map_err(|_| bad())?;
        let per = match per.trim() {
            "s" => 's',
            "m" => 'm',
            "h" => 'h',
            _ => return Err(bad()),
        };
        (count > 0.0 && count.is_finite())
            .then_some(Rate { count, per })
            .ok_or_else(bad)
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per)
    }
}

/// A token bucket: it holds one, and fills at the rate.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    /// When there is one again.
    next: Instant,
}

impl Bucket {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Bucket {
            rate: rate.a_second(),
            next: now,
        }
    }

    /// When one can be taken; now, or later.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn take(&mut self, now: Instant) {
        // What nobody took meanwhile is gone: no bursts.
        let pause = Duration::try_from_secs_f64(1.0 / self.rate).unwrap_or(Duration::from_secs(86_400));
        self.next = self.next.max(now) + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_text() {
        for (text, a_second) in [("10/s", 10.0), ("90/m", 1.5), ("1800 / h", 0.5), ("2.5", 2.5)] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!(rate.a_second(), a_second);
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for text in ["", "0/s", "-1", "10/d", "x/s", "nan", "inf/s", "/"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_bucket_spreads_what_is_taken() {
        let start = Instant::now();
        let mut bucket = Bucket::new("4/s".parse().expect("a rate"), start);
        assert_eq!(bucket.next(), start);
        bucket.take(start);
        bucket.take(start);
        assert_eq!(bucket.next(), start + Duration::from_millis(500));
        // Nothing is saved up while nobody takes.
        let later = start + Duration::from_secs(60);
        bucket.take(later);
        assert_eq!(bucket.next(), later + Duration::from_millis(250));
    }
}
