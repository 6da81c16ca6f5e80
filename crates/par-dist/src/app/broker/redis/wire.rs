//! Tasks as kombu writes them into the lists of a Redis server: one JSON text with headers, properties and the body in base64.

use crate::app::broker::{Incoming, LEFT, Outgoing, Tag};
use crate::app::message::Properties;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// The steps of priorities: each has a list of its own, and the first goes first.
const STEPS: [u8; 4] = [0, 3, 6, 9];
/// What is between the name of a queue and the step.
const SEPARATOR: &str = "\u{6}\u{16}";

/// The lists of a queue, in the order in which they are looked at.
pub(super) fn lists(queue: &str) -> [String; 4] {
    STEPS.map(|step| list(queue, step))
}

/// The list for a priority. As with kombu, 0 goes first.
pub(super) fn list(queue: &str, priority: u8) -> String {
    match STEPS.iter().rev().find(|step| **step <= priority) {
        None | Some(0) => queue.to_owned(),
        Some(step) => format!("{queue}{SEPARATOR}{step}"),
    }
}

/// With a word that it has waited long enough when it comes, whatever a clock says, where the server keeps it until then.
pub(super) fn write(task: &Outgoing, reply_to: &str, waits: bool) -> String {
    let mut headers = task.message.write_headers();
    if waits {
        headers.insert(LEFT.to_owned(), 0.into());
    }
    let (message, properties) = (&task.message, &task.message.properties);
    let reply_to = properties.reply_to.as_deref().unwrap_or(reply_to);
    envelope(
        &message.write_body(),
        (&properties.content_type, &properties.content_encoding),
        Value::Object(headers),
        json!({
            "correlation_id": properties.correlation_id,
            "reply_to": reply_to,
            "delivery_mode": 2,
            "delivery_info": { "exchange": "", "routing_key": task.queue },
            "priority": properties.priority,
        }),
    )
}

pub(super) fn envelope(
    body: &[u8],
    (kind, encoding): (&str, &str),
    headers: Value,
    mut properties: Value,
) -> String {
    properties["body_encoding"] = "base64".into();
    properties["delivery_tag"] = uuid::Uuid::new_v4().to_string().into();
    json!({
        "body": STANDARD.encode(body),
        "content-encoding": encoding,
        "content-type": kind,
        "headers": headers,
        "properties": properties,
    })
    .to_string()
}

/// What came, as far as it can be read; the rest is as nothing, which the worker says.
pub(super) fn read(tag: Tag, queue: &str, raw: &str) -> Incoming {
    let mut envelope: Value = serde_json::from_str(raw).unwrap_or_default();
    let mut headers = match envelope["headers"].take() {
        Value::Object(headers) => headers,
        _ => Map::new(),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let properties = &envelope["properties"];
    let body = envelope["body"].as_str().unwrap_or_default();
    let body = match properties["body_encoding"].as_str() {
        Some("base64") => STANDARD.decode(body).unwrap_or_default(),
        _ => body.as_bytes().to_vec(),
    };
    Incoming {
        tag,
        left: headers.remove(LEFT).and_then(|left| left.as_i64()),
        queue: queue.to_owned(),
        redelivered: properties["delivery_info"]["redelivered"]
            .as_bool()
            .unwrap_or(false),
        properties: Properties {
            content_type: text(&envelope["content-type"]),
            content_encoding: text(&envelope["content-encoding"]),
            correlation_id: text(&properties["correlation_id"]),
            reply_to: properties["reply_to"].as_str().map(str::to_owned),
            priority: properties["priority"]
                .as_u64()
                .map_or(0, |priority| u8::try_from(priority).unwrap_or(u8::MAX)),
        },
        headers,
        body,
    }
}

/// The body of a message that is none of a task, such as one to all workers.
pub(super) fn read_json(raw: &str) -> Value {
    let incoming = read(Tag(0), "", raw);
    serde_json::from_slice(&incoming.body).unwrap_or_default()
}

/// What is kept of a leased message: itself, its exchange and its queue. As it goes back, and to which list; None if it is no such thing.
pub(super) fn to_give_back(kept: &str) -> Option<(String, String)> {
    let (mut envelope, _, queue): (Value, Value, String) = serde_json::from_str(kept).ok()?;
    let properties = envelope.get_mut("properties")?;
    let priority = properties["priority"].as_u64().unwrap_or(0);
    if let Some(info) = properties.get_mut("delivery_info").and_then(Value::as_object_mut) {
        info.insert("redelivered".to_owned(), true.into());
    }
    if let Some(headers) = envelope.get_mut("headers").and_then(Value::as_object_mut) {
        headers.insert("redelivered".to_owned(), true.into());
    }
    let list = list(&queue, u8::try_from(priority).unwrap_or(u8::MAX));
    Some((list, envelope.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::message::Message;
    use proptest::prelude::*;

    fn task() -> Outgoing {
        let mut message = Message::new("t", "1", vec![json!([0.1, "grün"])], Map::new());
        message.properties.priority = 4;
        message.headers.other.insert("mine".to_owned(), json!([[], 0.1]));
        Outgoing {
            queue: "mail".to_owned(),
            message,
            at: None,
        }
    }

    #[test]
    fn lists_are_those_of_kombu() {
        assert_eq!(
            lists("q"),
            ["q", "q\u{6}\u{16}3", "q\u{6}\u{16}6", "q\u{6}\u{16}9"]
        );
        assert_eq!(
            (list("q", 2), list("q", 5)),
            ("q".to_owned(), "q\u{6}\u{16}3".to_owned())
        );
        assert_eq!(list("q", 255), "q\u{6}\u{16}9");
    }

    #[test]
    fn what_is_written_is_read_and_goes_back_as_it_was() {
        let (task, same) = (task(), |incoming: Incoming, redelivered: bool| {
            assert_eq!(
                (incoming.redelivered, incoming.queue.as_str()),
                (redelivered, "mail")
            );
            let mut headers = incoming.headers;
            headers.remove("redelivered");
            let message = Message::read(headers, incoming.properties, &incoming.body).expect("a task");
            let mut expected = self::task().message;
            expected.properties.reply_to = Some("me".to_owned());
            assert_eq!(message, expected);
        });
        let raw = write(&task, "me", false);
        same(read(Tag(1), "mail", &raw), false);
        let (list, again) = to_give_back(&format!(r#"[{raw},"","mail"]"#)).expect("a message");
        assert_eq!(list, "mail\u{6}\u{16}3");
        same(read(Tag(1), "mail", &again), true);
        let waited = read(Tag(1), "mail", &write(&task, "me", true));
        assert_eq!(waited.left, Some(0));
        same(waited, false);
    }

    proptest! {
        #[test]
        fn no_text_is_more_than_no_task(raw in ".{0,80}", json in r#"\{"(body|headers|properties)": ?(\[\]|"a"|\{\}|null|7)\}"#) {
            for raw in [&raw, &json] {
                let incoming = read(Tag(1), "q", raw);
                prop_assert!(Message::read(incoming.headers, incoming.properties, &incoming.body).is_err());
                let _ = read_json(raw);
                let _ = to_give_back(&format!(r#"[{raw},"","q"]"#));
            }
        }
    }
}
