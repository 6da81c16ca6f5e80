//! What an app can be told from outside of the program: by a file in TOML, and by variables of the environment.

use super::AppError;
use super::hands::Mode;
use super::options::TaskOptions;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What an app is told. The names are those of the file and, in capitals and after [`PREFIX`], of the environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Config {
    pub(super) broker: String,
    pub(super) results: Option<String>,
    pub(super) queue: String,
    #[serde(with = "seconds")]
    pub(super) lease: Duration,
    #[serde(with = "seconds")]
    pub(super) result_expires: Duration,
    pub(super) format: super::format::Format,
    pub(super) quorum_queues: bool,
    pub(super) highest_priority: Option<u8>,
    pub(super) dead_letters: Option<String>,
    pub(super) unconfirmed: bool,
    pub(super) routes: Vec<Route>,
    /// What is said of tasks' options; the rest of them is as the program says.
    pub(super) tasks: BTreeMap<String, Map<String, Value>>,
    pub(super) worker: WorkerConfig,
}

/// A queue for tasks whose name fits a pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) pattern: String,
    pub(super) queue: String,
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WorkerConfig {
    pub(super) mode: Mode,
    pub(super) concurrency: Option<usize>,
    pub(super) prefetch: usize,
    pub(super) queues: Vec<String>,
    pub(super) tasks_per_child: Option<u64>,
    pub(super) memory_per_child: Option<u64>,
}

/// What the names of variables begin with.
const PREFIX: &str = "PAR_DIST_";

impl Default for Config {
    fn default() -> Self {
        Config {
            broker: "par.db".to_owned(),
            results: None,
            queue: "celery".to_owned(),
            lease: Duration::from_secs(30),
            result_expires: Duration::from_secs(24 * 3600),
            format: super::format::Format::Json,
            quorum_queues: false,
            highest_priority: None,
            dead_letters: None,
            unconfirmed: false,
            routes: Vec::new(),
            tasks: BTreeMap::new(),
            worker: WorkerConfig::default(),
        }
    }
}

impl Default for WorkerConfig {
    fn default() -> Self {
        WorkerConfig {
            mode: Mode::Threads,
            concurrency: None,
            prefetch: 4,
            queues: Vec::new(),
            tasks_per_child: None,
            memory_per_child: None,
        }
    }
}

impl Config {
    /// What is said here, and there; where both say something, there.
    fn overlaid(&self, with: Map<String, Value>) -> Result<Self, String> {
        // It was read from such a value, or made of what has one.
        let mut all = serde_json::to_value(self).map_err(|error| error.to_string())?;
        overlay(&mut all, Value::Object(with));
        read(all)
    }

    pub(super) fn with_file(&self, path: &Path) -> Result<Self, AppError> {
        let bad = |reason: String| AppError::Option {
            option: "file",
            reason: format!("{}: {reason}", path.display()),
        };
        let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let table: Map<String, Value> = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        self.overlaid(table).map_err(bad)
    }

    pub(super) fn with_environment(
        &self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, AppError> {
        let mut config = self.clone();
        for (name, text) in variables {
            let Some(key) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let mut said = Map::new();
            // What is no number, list or the like is a text.
            let value = serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.as_str()));
            match key.strip_prefix("WORKER_") {
                Some(key) => {
                    let worker = Map::from_iter([(key.to_lowercase(), value)]);
                    said.insert("worker".to_owned(), Value::Object(worker));
                }
                None => drop(said.insert(key.to_lowercase(), value)),
            }
            config = config.overlaid(said).map_err(|reason| AppError::Option {
                option: "environment",
                reason: format!("{name}: {reason}"),
            })?;
        }
        Ok(config)
    }
}

/// The options of a task, of which a file says some otherwise.
pub(super) fn options(
    task: &str,
    options: &TaskOptions,
    with: &Map<String, Value>,
) -> Result<TaskOptions, AppError> {
    let bad = |error: serde_json::Error| AppError::Option {
        option: "tasks",
        reason: format!("{task}: {error}"),
    };
    let mut all = serde_json::to_value(options).map_err(bad)?;
    overlay(&mut all, Value::Object(with.clone()));
    serde_json::from_value(all).map_err(bad)
}

fn read(value: Value) -> Result<Config, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (name, value) in above {
                overlay(below.entry(name).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// Times as numbers of seconds.
pub(super) mod seconds {
    use super::{Deserialize, Duration};
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    pub(in crate::app) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub(in crate::app) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| D::Error::custom(format!("{seconds} is no number of seconds: {error}")))
    }
}

/// Times as numbers of seconds, or none.
pub(super) mod seconds_or_none {
    use super::{Deserialize, Duration};
    use serde::{Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Seconds(#[serde(with = "super::seconds")] Duration);

    pub(in crate::app) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Seconds).serialize(to)
    }

    pub(in crate::app) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Seconds>::deserialize(from)?.map(|Seconds(time)| time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.toml");
        std::fs::write(&path, text).expect("written");
        Config::default()
            .with_file(&path)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_says_what_it_says_and_the_rest_stays() {
        let config = file(
            r#"
            broker = "jobs.db"
            lease = 2.5
            [[routes]]
            pattern = "mail.*"
            queue = "mail"
            [tasks."mail.send"]
            acks_late = true
            rate = "10/m"
            hard_limit = 30
            retry = { count = 3, delay = 0.5 }
            [worker]
            mode = "processes"
            concurrency = 3
            "#,
        )
        .expect("a configuration");
        assert_eq!(config.broker, "jobs.db");
        assert_eq!(config.lease, Duration::from_millis(2500));
        assert_eq!(config.queue, "celery");
        let code = TaskOptions {
            ignore_result: true,
            ..TaskOptions::default()
        };
        let options = options("mail.send", &code, &config.tasks["mail.send"]).expect("options");
        assert!(options.ignore_result);
        assert!(options.acks_late && options.hard_limit == Some(Duration::from_secs(30)));
        assert_eq!(
            (options.retry.count, options.retry.delay),
            (3, Duration::from_millis(500))
        );
        assert_eq!(
            (
                config.worker.mode,
                config.worker.concurrency,
                config.worker.prefetch
            ),
            (Mode::Processes, Some(3), 4)
        );
    }

    #[test]
    fn what_a_file_cannot_say_is_named() {
        for (text, part) in [
            ("brokr = 'x'", "unknown field `brokr`"),
            ("lease = -1", "no number of seconds"),
            ("[worker]\nmode = 'magic'", "unknown variant `magic`"),
            ("broker = ", "line 1"),
        ] {
            let refused = file(text).expect_err("it is bad");
            assert!(
                refused.contains(part) && refused.contains("app.toml"),
                "{refused}"
            );
        }
        let often = Map::from_iter([("rate".to_owned(), Value::from("often"))]);
        let refused = options("x", &TaskOptions::default(), &often).expect_err("no rate");
        assert!(refused.to_string().contains("x: ") && refused.to_string().contains("10/s"));
        let missing = Config::default().with_file(Path::new("/nowhere/app.toml"));
        assert!(missing.is_err());
    }

    #[test]
    fn the_environment_has_the_last_word() {
        let variables = [
            ("PAR_DIST_BROKER", "amqp://somewhere"),
            ("PAR_DIST_LEASE", "7"),
            ("PAR_DIST_WORKER_CONCURRENCY", "9"),
            ("PAR_DIST_WORKER_QUEUES", r#"["a", "b"]"#),
            ("HOME", "/root"),
        ];
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let config = Config::default()
            .with_environment(pairs(&variables).into_iter())
            .expect("good");
        assert_eq!(
            (config.broker.as_str(), config.lease),
            ("amqp://somewhere", Duration::from_secs(7))
        );
        assert_eq!(
            (config.worker.concurrency, config.worker.queues.len()),
            (Some(9), 2)
        );
        let bad = Config::default()
            .with_environment(pairs(&[("PAR_DIST_WORKER_CONCURRENCY", "many")]).into_iter())
            .expect_err("it is no number")
            .to_string();
        assert!(bad.contains("PAR_DIST_WORKER_CONCURRENCY"), "{bad}");
    }
}
