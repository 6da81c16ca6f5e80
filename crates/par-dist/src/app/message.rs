//! A task on the wire: version 2 of Celery's message protocol, with a body in JSON, or by feature in MessagePack or YAML.
//!
//! Headers say what is called and how; the body holds the arguments and what follows. What a producer adds beyond the protocol is kept
//! and passed on. Bytes come from anywhere, so sizes are bounded, and what does not fit is an error that says what was expected.

use super::format::Format;
use super::time::read_time;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest body that is read.
pub(crate) const MAX_BODY: usize = 128 << 20;
/// The longest name of a task, and the longest id: a server takes no longer ones.
const MAX_NAME: usize = 255;
/// Representations of arguments are for people: the rest is cut off, as Celery does.
const MAX_REPR: usize = 1024;

/// Why bytes are no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The body is in a format that is not read.
    #[error("the body is {found}, and only {} is read{}", Format::known(), if found.contains("pickle") { "; pickle is refused, as reading it runs any code that its sender likes" } else { "" })]
    Content {
        /// Content type and encoding.
        found: String,
    },
    /// The message is of version 1, or of none.
    #[error("no message of Celery's protocol 2: {0}")]
    Protocol(String),
    /// The body is not what it should be.
    #[error("the body is no [args, kwargs, embed]: {0}")]
    Body(String),
    /// The body is too long.
    #[error("the body has {bytes} bytes; at most {most} are read")]
    Size {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
}

/// What a body is made of.
type Parts = (Vec<Value>, Map<String, Value>, Option<Embed>);

/// What is called, and how. The names are Celery's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Headers {
    #[serde(default = "rust")]
    pub(crate) lang: String,
    pub(crate) task: String,
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) shadow: Option<String>,
    #[serde(default)]
    pub(crate) eta: Option<String>,
    #[serde(default)]
    pub(crate) expires: Option<String>,
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[serde(default)]
    pub(crate) group_index: Option<u64>,
    #[serde(default)]
    pub(crate) retries: Option<u32>,
    #[serde(default)]
    pub(crate) timelimit: Option<(Option<f64>, Option<f64>)>,
    #[serde(default)]
    pub(crate) root_id: Option<String>,
    #[serde(default)]
    pub(crate) parent_id: Option<String>,
    #[serde(default)]
    pub(crate) argsrepr: Option<String>,
    #[serde(default)]
    pub(crate) kwargsrepr: Option<String>,
    #[serde(default)]
    pub(crate) origin: Option<String>,
    #[serde(default)]
    pub(crate) ignore_result: Option<bool>,
    #[serde(default)]
    pub(crate) replaced_task_nesting: Option<u32>,
    #[serde(default)]
    pub(crate) stamped_headers: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) stamps: Option<Map<String, Value>>,
    /// What users and other versions add.
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

fn rust() -> String {
    "rust".to_owned()
}

/// How it is delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Properties {
    pub(crate) content_type: String,
    pub(crate) content_encoding: String,
    pub(crate) correlation_id: String,
    #[serde(default)]
    pub(crate) reply_to: Option<String>,
    #[serde(default)]
    pub(crate) priority: u8,
}

/// The arguments, and what follows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) args: Vec<Value>,
    pub(crate) kwargs: Map<String, Value>,
    pub(crate) embed: Embed,
}

/// What follows a task. The names are Celery's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Embed {
    #[serde(default)]
    pub(crate) callbacks: Option<Vec<Signature>>,
    #[serde(default)]
    pub(crate) errbacks: Option<Vec<Signature>>,
    /// What follows with the value, the next one last.
    #[serde(default)]
    pub(crate) chain: Option<Vec<Signature>>,
    #[serde(default)]
    pub(crate) chord: Option<Value>,
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

/// A call that is yet to be made: a task, its arguments and its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    pub(crate) task: String,
    #[serde(default)]
    pub(crate) args: Vec<Value>,
    #[serde(default)]
    pub(crate) kwargs: Map<String, Value>,
    #[serde(default)]
    pub(crate) options: Map<String, Value>,
    #[serde(default)]
    pub(crate) subtask_type: Option<String>,
    /// Whether it does not take the value of what ran before it.
    #[serde(default)]
    pub(crate) immutable: bool,
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

/// A task on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) headers: Headers,
    pub(crate) properties: Properties,
    pub(crate) body: Body,
}

impl Message {
    /// A call of a task; the rest is as in no call.
    pub(crate) fn new(task: &str, id: &str, args: Vec<Value>, kwargs: Map<String, Value>) -> Self {
        Message {
            headers: Headers {
                lang: rust(),
                task: task.to_owned(),
                id: id.to_owned(),
                shadow: None,
                eta: None,
                expires: None,
                group: None,
                group_index: None,
                retries: Some(0),
                timelimit: Some((None, None)),
                root_id: Some(id.to_owned()),
                parent_id: None,
                argsrepr: Some(repr(&args)),
                kwargsrepr: Some(repr(&kwargs)),
                origin: Some(origin()),
                ignore_result: Some(false),
                replaced_task_nesting: Some(0),
                stamped_headers: None,
                stamps: Some(Map::new()),
                other: Map::new(),
            },
            properties: Properties {
                content_type: "application/json".to_owned(),
                content_encoding: "utf-8".to_owned(),
                correlation_id: id.to_owned(),
                reply_to: None,
                priority: 0,
            },
            body: Body {
                args,
                kwargs,
                embed: Embed::default(),
            },
        }
    }

    /// In that format from now on.
    pub(crate) fn set_format(&mut self, format: Format) {
        let (kind, encoding) = format.content();
        kind.clone_into(&mut self.properties.content_type);
        encoding.clone_into(&mut self.properties.content_encoding);
    }

    pub(crate) fn write_headers(&self) -> Map<String, Value> {
        match serde_json::to_value(&self.headers) {
            Ok(Value::Object(headers)) => headers,
            // Texts and numbers always encode.
            _ => Map::new(),
        }
    }

    pub(crate) fn write_body(&self) -> Vec<u8> {
        let Properties {
            content_type,
            content_encoding,
            ..
        } = &self.properties;
        let format = Format::of(content_type, content_encoding).unwrap_or_default();
        format.write(&(&self.body.args, &self.body.kwargs, &self.body.embed))
    }

    /// # Errors
    /// [`MessageError`]: these are no task.
    pub(crate) fn read(
        headers: Map<String, Value>,
        properties: Properties,
        body: &[u8],
    ) -> Result<Self, MessageError> {
        let (kind, encoding) = (&properties.content_type, &properties.content_encoding);
        let format = Format::of(kind, encoding).ok_or_else(|| MessageError::Content {
            found: format!("{kind} in {encoding}"),
        })?;
        if body.len() > MAX_BODY {
            return Err(MessageError::Size {
                bytes: body.len(),
                most: MAX_BODY,
            });
        }
        for name in ["task", "id"] {
            match headers.get(name).and_then(Value::as_str).map(str::len) {
                Some(1..=MAX_NAME) => {}
                None => return Err(MessageError::Protocol(format!("the header {name:?} is missing"))),
                Some(bytes) => {
                    let text = format!("the header {name:?} has {bytes} bytes; 1 to {MAX_NAME} are expected");
                    return Err(MessageError::Protocol(text));
                }
            }
        }
        let headers: Headers = serde_json::from_value(Value::Object(headers))
            .map_err(|error| MessageError::Protocol(format!("a header is not what it should be: {error}")))?;
        let (args, kwargs, embed): Parts = format.read(body).map_err(MessageError::Body)?;
        let embed = embed.unwrap_or_default();
        Ok(Message {
            headers,
            properties,
            body: Body { args, kwargs, embed },
        })
    }

    pub(crate) fn eta(&self) -> Result<Option<Timestamp>, MessageError> {
        time_of("eta", self.headers.eta.as_deref())
    }

    pub(crate) fn expires(&self) -> Result<Option<Timestamp>, MessageError> {
        time_of("expires", self.headers.expires.as_deref())
    }
}

fn time_of(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, MessageError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let time = read_time(text).map(Some);
    time.ok_or_else(|| {
        MessageError::Protocol(format!("the header {name:?} is no time of ISO 8601: {text:?}"))
    })
}

fn repr(arguments: &impl Serialize) -> String {
    let mut text = serde_json::to_string(arguments).unwrap_or_default();
    if text.len() > MAX_REPR {
        let end = (0..=MAX_REPR).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
    text
}

/// Who sends: `gen1234@host`, as Celery calls programs that are no workers.
fn origin() -> String {
    let host = rustix::system::uname();
    format!("gen{}@{}", std::process::id(), host.nodename().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::time::write_time;
    use proptest::prelude::*;

    fn json(kind: &str) -> Properties {
        Properties {
            content_type: kind.to_owned(),
            content_encoding: "utf-8".to_owned(),
            correlation_id: "1".to_owned(),
            reply_to: None,
            priority: 0,
        }
    }

    fn headers(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    /// As kombu publishes it: Celery 5.7, `add.apply_async((2, 3), countdown=10, link=mul.s(4))`.
    #[test]
    fn what_celery_sends_is_read() {
        let sent = serde_json::json!({
            "lang": "py", "task": "demo.add", "id": "0b8a", "shadow": null, "eta": "2026-11-25T17:00:10.123456+00:00",
            "expires": null, "group": null, "group_index": null, "retries": 0, "timelimit": [null, 30],
            "root_id": "0b8a", "parent_id": null, "argsrepr": "(2, 3)", "kwargsrepr": "{}", "origin": "gen7@host",
            "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}, "mine": [1],
        });
        let body = br#"[[2, 3], {}, {"callbacks": [{"task": "demo.mul", "args": [4], "kwargs": {}, "options": {},
            "subtask_type": null, "immutable": false, "chord_size": null}], "errbacks": null, "chain": null, "chord": null}]"#;
        let message = Message::read(headers(sent), json("application/json"), body).expect("a task");
        assert_eq!(message.body.args, [2, 3]);
        assert_eq!(message.headers.timelimit, Some((None, Some(30.0))));
        assert_eq!(message.headers.other["mine"], serde_json::json!([1]));
        let eta = message.eta().expect("a time").expect("there is one");
        assert_eq!(write_time(eta), "2026-11-25T17:00:10.123456+00:00");
        let callbacks = message.body.embed.callbacks.as_deref().expect("one");
        assert_eq!(
            (callbacks[0].task.as_str(), callbacks[0].immutable),
            ("demo.mul", false)
        );
    }

    #[test]
    fn the_least_that_a_worker_accepts_is_read() {
        let sent = serde_json::json!({"lang": "py", "task": "t", "id": "1", "root_id": "1", "parent_id": null, "group": null});
        assert!(Message::read(headers(sent), json("application/json"), b"[[], {}, null]").is_ok());
    }

    #[test]
    fn what_is_no_task_says_what_was_expected() {
        let good = headers(serde_json::json!({"task": "t", "id": "1"}));
        let read = |headers: &Map<String, Value>, kind: &str, body: &[u8]| {
            Message::read(headers.clone(), json(kind), body)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        let pickle = read(&good, "application/x-python-serialize-pickle", b"\x80\x04").expect_err("never");
        assert!(pickle.contains("pickle is refused"), "{pickle}");
        let none = read(&Map::new(), "application/json", b"[[], {}, {}]").expect_err("no headers");
        assert_eq!(
            none,
            "no message of Celery's protocol 2: the header \"task\" is missing"
        );
        for (name, text) in [("id", "x".repeat(256)), ("task", String::new())] {
            let mut odd = good.clone();
            odd.insert(name.to_owned(), text.into());
            let refused = read(&odd, "application/json", b"[[], {}, {}]").expect_err("no name");
            assert!(refused.contains("1 to 255"), "{refused}");
        }
        for body in [
            &b"{"[..],
            b"[]",
            b"[1, 2, 3]",
            b"[[], [], {}]",
            b"\xff",
            b"[[], {}, {}] []",
        ] {
            assert!(read(&good, "application/json", body).is_err(), "{body:?}");
        }
        let nested = "[".repeat(100_000);
        assert!(read(&good, "application/json", nested.as_bytes()).is_err());
        let long = vec![b' '; MAX_BODY + 1];
        assert!(
            read(&good, "application/json", &long)
                .expect_err("too long")
                .contains("at most")
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("JSON has no others", |x| x.is_finite())
                .prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Floats keep every bit.
        #[test]
        fn what_is_written_is_read_again(
            args in prop::collection::vec(value(), 0..4),
            kwargs in prop::collection::hash_map("[a-z]{1,4}", value(), 0..3),
            other in value(),
        ) {
            let mut message = Message::new("t", "1", args, kwargs.into_iter().collect());
            message.headers.other.insert("mine".to_owned(), other);
            for format in Format::ALL {
                message.set_format(*format);
                let read = Message::read(message.write_headers(), message.properties.clone(), &message.write_body());
                prop_assert_eq!(read.as_ref(), Ok(&message));
            }
        }

        #[test]
        fn no_bytes_are_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), headers in value()) {
            let headers = headers.as_object().cloned().unwrap_or_default();
            for format in Format::ALL {
                let (kind, encoding) = format.content();
                let properties = Properties { content_encoding: encoding.to_owned(), ..json(kind) };
                let _ = Message::read(headers.clone(), properties, &bytes);
            }
        }
    }
}
