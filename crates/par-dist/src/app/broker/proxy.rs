//! The broker as the task in a child process has it: what it asks for goes through the pipe to the worker, which has the connection.
//!
//! So what a task says of itself and what comes of it are told in order, and a child has no connection of its own.

use super::{Incoming, Outcome, Outgoing, Result, Results, Revocation, Seen, Tag, Transport};
use crate::BrokerError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// What a task in a child asks its worker for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Publish(Vec<Outgoing>),
    Waiting(String),
    Purge(String),
    Revoke {
        id: String,
        terminate: bool,
    },
    Store(Outcome),
    Outcome(String),
    Forget(String),
    Claim {
        key: String,
        copy: String,
    },
    Seen,
    Wait {
        id: String,
        since: Seen,
        timeout: Duration,
    },
}

type Answer = std::result::Result<Value, String>;

/// The worker's side.
pub(crate) fn answer(transport: &dyn Transport, results: &dyn Results, ask: Ask) -> Answer {
    let answered = match ask {
        Ask::Publish(tasks) => transport.publish(&tasks).map(|()| Value::Null),
        Ask::Waiting(queue) => transport.waiting(&queue).map(Value::from),
        Ask::Purge(queue) => transport.purge(&queue).map(Value::from),
        Ask::Revoke { id, terminate } => transport
            .revoke(&Revocation { id, terminate })
            .map(|()| Value::Null),
        Ask::Store(outcome) => results.store(outcome).map(|()| Value::Null),
        // None is not the same as a document that is null; there is no such document.
        Ask::Outcome(id) => results.outcome(&id).map(|document| json!(document)),
        Ask::Forget(id) => results.forget(&id).map(|()| Value::Null),
        Ask::Claim { key, copy } => results.claim(&key, &copy).map(Value::from),
        Ask::Seen => Ok(json!(results.seen())),
        Ask::Wait { id, since, timeout } => {
            results.wait(&id, since, timeout);
            Ok(Value::Null)
        }
    };
    answered.map_err(|error| error.to_string())
}

/// The child's side: how a question reaches the worker, and the worker's queue for replies.
pub(crate) struct Proxy<A> {
    pub(crate) ask: A,
    pub(crate) reply_to: Option<String>,
}

impl<A: Fn(Ask) -> Answer + Send + Sync> Proxy<A> {
    fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<T> {
        let failed = |reason| BrokerError::Failed {
            broker: "the worker of this process".into(),
            reason,
        };
        let value = (self.ask)(ask).map_err(failed)?;
        serde_json::from_value(value).map_err(|error| failed(error.to_string()))
    }

    fn not_here<T>(&self) -> Result<T> {
        Err(BrokerError::Failed {
            broker: "the worker of this process".into(),
            reason: "a task in a child process starts no workers".to_owned(),
        })
    }
}

impl<A: Fn(Ask) -> Answer + Send + Sync> Transport for Proxy<A> {
    fn publish(&self, tasks: &[Outgoing]) -> Result<()> {
        self.ask(Ask::Publish(tasks.to_vec()))
    }

    fn lease(&self, _: &[String], _: usize) -> Result<Vec<Incoming>> {
        self.not_here()
    }

    fn acknowledge(&self, _: &[Tag]) -> Result<usize> {
        self.not_here()
    }

    fn release(&self, _: &[Tag]) -> Result<()> {
        self.not_here()
    }

    fn conclude(&self, _: Option<Tag>, _: Option<Outcome>, _: &[Outgoing]) -> Result<()> {
        self.not_here()
    }

    fn beat(&self) -> Result<()> {
        self.not_here()
    }

    fn lease_time(&self) -> Duration {
        Duration::MAX
    }

    fn waiting(&self, queue: &str) -> Result<u64> {
        self.ask(Ask::Waiting(queue.to_owned()))
    }

    fn purge(&self, queue: &str) -> Result<u64> {
        self.ask(Ask::Purge(queue.to_owned()))
    }

    fn revoke(&self, revocation: &Revocation) -> Result<()> {
        let Revocation { id, terminate } = revocation.clone();
        self.ask(Ask::Revoke { id, terminate })
    }

    fn revoked(&self) -> Result<Vec<Revocation>> {
        self.not_here()
    }

    fn seen(&self) -> Seen {
        Seen(0)
    }

    fn wait(&self, _: Seen, _: Duration) {}

    fn wake(&self) {}
}

impl<A: Fn(Ask) -> Answer + Send + Sync> Results for Proxy<A> {
    fn store(&self, outcome: Outcome) -> Result<()> {
        self.ask(Ask::Store(outcome))
    }

    fn reply_to(&self) -> Option<&str> {
        self.reply_to.as_deref()
    }

    fn outcome(&self, id: &str) -> Result<Option<Value>> {
        self.ask(Ask::Outcome(id.to_owned()))
    }

    fn forget(&self, id: &str) -> Result<()> {
        self.ask(Ask::Forget(id.to_owned()))
    }

    fn claim(&self, key: &str, copy: &str) -> Result<bool> {
        self.ask(Ask::Claim {
            key: key.to_owned(),
            copy: copy.to_owned(),
        })
    }

    fn seen(&self) -> Seen {
        // If the worker is gone, the next question says so.
        self.ask(Ask::Seen).unwrap_or(Seen(0))
    }

    fn wait(&self, id: &str, since: Seen, timeout: Duration) {
        let wait = Ask::Wait {
            id: id.to_owned(),
            since,
            timeout,
        };
        let _: Result<Value> = self.ask(wait);
    }
}
