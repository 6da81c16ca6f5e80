//! Messages to all workers, as Celery's `app.control` sends them (its remote control; of that, revocations).

use super::broker::Revocation;
use serde_json::{Value, json};

/// The exchange on which they are sent.
pub(super) const EXCHANGE: &str = "celery.pidbox";

pub(super) fn revoke(revocation: &Revocation) -> Value {
    json!({
        "method": "revoke",
        "arguments": { "task_id": revocation.id, "terminate": revocation.terminate, "signal": "SIGTERM" },
        "destination": null,
        "pattern": null,
        "matcher": null,
    })
}

/// What a message revokes; nothing if it is about something else.
pub(super) fn revoked(message: &Value) -> Vec<Revocation> {
    if message["method"] != "revoke" {
        return Vec::new();
    }
    let arguments = &message["arguments"];
    let terminate = arguments["terminate"].as_bool().unwrap_or(false);
    // One, or several.
    let ids = match &arguments["task_id"] {
        Value::Array(ids) => ids.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect::<Vec<_>>(),
    };
    ids.into_iter()
        .map(|id| Revocation {
            id: id.to_owned(),
            terminate,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard() {
        let revocation = Revocation {
            id: "7".to_owned(),
            terminate: true,
        };
        assert_eq!(revoked(&revoke(&revocation)), [revocation]);
        let several = json!({"method": "revoke", "arguments": {"task_id": ["1", "2", 3]}});
        let ids: Vec<String> = revoked(&several).into_iter().map(|one| one.id).collect();
        assert_eq!(ids, ["1", "2"]);
        for other in [
            json!({"method": "ping"}),
            json!(null),
            json!([]),
            json!({"method": "revoke"}),
        ] {
            assert_eq!(revoked(&other), []);
        }
    }
}
