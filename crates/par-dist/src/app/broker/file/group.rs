//! Group commit: what several threads want written while another's transaction goes to the disk is one transaction, the next.

use super::File;
use crate::BrokerError;
use crate::app::broker::{Outcome, Outgoing, Tag};
use crate::app::message::Message;
use crate::app::time::due;
use rusqlite::{Transaction, params};
use std::sync::mpsc::{self, Sender};

type Result<T> = std::result::Result<T, BrokerError>;

/// What a thread wants written.
pub(super) enum Write {
    Publish(Vec<Outgoing>),
    /// Ends leases of a consumer.
    Acknowledge(i64, Vec<Tag>),
    /// The end of a run: the consumer and its lease, if it still has one, the outcome with the time until which it is kept, and what follows.
    Conclude {
        lease: Option<(i64, Tag)>,
        outcome: Option<(Outcome, i64)>,
        next: Vec<Outgoing>,
    },
}

/// Those that wait for the next transaction.
pub(super) type Line = Vec<(Write, Sender<Result<usize>>)>;

impl File {
    /// Writes, together with what others want written just now; how many rows of tasks were ended.
    pub(super) fn write_with_others(&self, write: Write) -> Result<usize> {
        let (tell, told) = mpsc::channel();
        self.line.lock().push((write, tell));
        // Whoever gets the file next writes for all that wait; the others find that it is done.
        let mut db = self.db.lock();
        let line = std::mem::take(&mut *self.line.lock());
        if !line.is_empty() {
            let keeps = if line.iter().any(|(write, _)| write.is_to_last()) {
                Keeps::PowerCuts
            } else {
                Keeps::Kills
            };
            let all = transact(&mut db, keeps, |tx| {
                line.iter().map(|(write, _)| write.run(tx)).collect()
            });
            let each: Vec<rusqlite::Result<usize>> = match all {
                Ok(ended) => {
                    let ended: Vec<usize> = ended;
                    ended.into_iter().map(Ok).collect()
                }
                // Each gets an error that is its own.
                Err(error) if line.len() == 1 => vec![Err(error)],
                Err(_) => line
                    .iter()
                    .map(|(write, _)| transact(&mut db, keeps, |tx| write.run(tx)))
                    .collect(),
            };
            for ((_, tell), done) in line.into_iter().zip(each) {
                // Who waits for it does so below.
                let _ = tell.send(done.map_err(|error| self.failed(&error)));
            }
        }
        drop(db);
        told.recv().unwrap_or_else(|_| {
            Err(BrokerError::Failed {
                broker: self.place.clone().into(),
                reason: "the thread that wrote ended".to_owned(),
            })
        })
    }
}

/// What a transaction outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// It is on the disk when it has ended.
    PowerCuts,
    /// The system has it, and writes it with the next that is to last.
    Kills,
}

/// The connection, and what its transactions outlive just now.
pub(super) struct Db {
    pub(super) connection: rusqlite::Connection,
    pub(super) keeps: Keeps,
}

/// Runs `work` in a transaction.
pub(super) fn transact<R>(
    db: &mut Db,
    keeps: Keeps,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<R>,
) -> rusqlite::Result<R> {
    if db.keeps != keeps {
        let mode = match keeps {
            Keeps::PowerCuts => "FULL",
            Keeps::Kills => "NORMAL",
        };
        db.connection.pragma_update(None, "synchronous", mode)?;
        db.keeps = keeps;
    }
    let tx = db
        .connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let done = work(&tx)?;
    tx.commit()?;
    Ok(done)
}

impl Write {
    /// What ends a lease may be forgotten with the power: the task is then run once more.
    fn is_to_last(&self) -> bool {
        match self {
            Write::Publish(_) => true,
            Write::Acknowledge(..) => false,
            Write::Conclude { outcome, next, .. } => outcome.is_some() || !next.is_empty(),
        }
    }

    fn run(&self, tx: &Transaction<'_>) -> rusqlite::Result<usize> {
        match self {
            Write::Publish(tasks) => {
                tasks.iter().try_for_each(|task| insert(tx, task))?;
                Ok(0)
            }
            Write::Acknowledge(consumer, tags) => tags.iter().map(|tag| end(tx, *consumer, *tag)).sum(),
            Write::Conclude { lease, outcome, next } => {
                let ended = match lease {
                    Some((consumer, tag)) => end(tx, *consumer, *tag)?,
                    None => 0,
                };
                // Whoever has it now tells of it, and sends what follows.
                if lease.is_none() || ended > 0 {
                    if let Some((outcome, expires)) = outcome {
                        tx.prepare_cached(
                            "INSERT OR REPLACE INTO results (id, expires, document) VALUES (?, ?, ?)",
                        )?
                        .execute(params![
                            outcome.id,
                            expires,
                            outcome.document.to_string()
                        ])?;
                    }
                    next.iter().try_for_each(|task| insert(tx, task))?;
                }
                Ok(ended)
            }
        }
    }
}

fn end(tx: &Transaction<'_>, consumer: i64, tag: Tag) -> rusqlite::Result<usize> {
    tx.prepare_cached("DELETE FROM tasks WHERE id = ? AND consumer = ?")?
        .execute([tag.0, consumer])
}

fn insert(tx: &Transaction<'_>, task: &Outgoing) -> rusqlite::Result<()> {
    let message: &Message = &task.message;
    tx.prepare_cached(
        "INSERT INTO tasks (queue, priority, due, headers, properties, body) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        task.queue,
        message.properties.priority,
        task.at.map(due),
        text(&message.write_headers()),
        text(&message.properties),
        message.write_body(),
    ])?;
    Ok(())
}

/// Values always encode.
fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
