//! Every statement that a peer runs while it works, and the tables that they speak of.
//!
//! What waits never slows what runs: each statement finds its rows by a key or an index, and none reads rows that it does not want.
//! A test asks SQLite for the plan of each.

/// The tables. `STRICT`: what another program writes has at least the right types.
pub(super) const SCHEMA: &str = "
CREATE TABLE counter(only INTEGER PRIMARY KEY CHECK (only = 1), next INTEGER NOT NULL) STRICT;
INSERT INTO counter VALUES (1, 1);
CREATE TABLE queues(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, ready INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE peers(
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, concurrency INTEGER NOT NULL, pid INTEGER NOT NULL,
    lease_ms INTEGER NOT NULL, beat INTEGER NOT NULL, initializer BLOB) STRICT;
CREATE TABLE calls(id INTEGER PRIMARY KEY, pool INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE INDEX calls_of ON calls(pool);
CREATE TABLE messages(
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, pool INTEGER NOT NULL, root INTEGER NOT NULL,
    job INTEGER NOT NULL, call INTEGER NOT NULL, owner INTEGER NOT NULL DEFAULT 0,
    first INTEGER NOT NULL, items INTEGER NOT NULL, shares BLOB NOT NULL, payload BLOB) STRICT;
CREATE INDEX ready ON messages(queue, id) WHERE owner = 0;
CREATE INDEX leased ON messages(owner) WHERE owner <> 0;
CREATE INDEX messages_of ON messages(pool, job);
CREATE TABLE payloads(id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE replies(
    pool INTEGER NOT NULL, message INTEGER NOT NULL, kind INTEGER NOT NULL, worker INTEGER NOT NULL,
    took_us INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (pool, message)) STRICT, WITHOUT ROWID;
CREATE TABLE cancels(pool INTEGER NOT NULL, job INTEGER NOT NULL, PRIMARY KEY (pool, job)) STRICT, WITHOUT ROWID;
CREATE TABLE shares(id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, pool INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE INDEX shares_of ON shares(pool);
";

/// Declares the statements, and the list of them for the test of plans.
macro_rules! statements {
    ($($name:ident = $text:literal;)*) => {
        $(pub(super) const $name: &str = $text;)*
        #[cfg(test)]
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

statements! {
    TAKE_NUMBERS = "UPDATE counter SET next = next + ?1 WHERE only = 1 RETURNING next";
    ADD_QUEUE = "INSERT OR IGNORE INTO queues(name) VALUES (?1)";
    QUEUE_ID = "SELECT id FROM queues WHERE name = ?1";
    // Kept, not counted: counting reads every row.
    ADD_READY = "UPDATE queues SET ready = ready + ?2 WHERE id = ?1";
    HOW_MANY_READY = "SELECT ready FROM queues WHERE id = ?1";

    ADD_PEER = "INSERT INTO peers(id, queue, concurrency, pid, lease_ms, beat, initializer) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)";
    PEER_EXISTS = "SELECT 1 FROM peers WHERE id = ?1";
    BEAT = "UPDATE peers SET beat = beat + 1 WHERE id = ?1";
    // The one table that is read whole: as long as there are processes.
    PEERS = "SELECT p.id, p.concurrency, q.name, p.pid, p.lease_ms, p.beat FROM peers p JOIN queues q ON q.id = p.queue";
    INITIALIZER = "SELECT initializer FROM peers WHERE id = ?1";
    REMOVE_PEER = "DELETE FROM peers WHERE id = ?1 RETURNING queue";

    ADD_CALL = "INSERT INTO calls(id, pool, body) VALUES (?1, ?2, ?3)";
    CALL = "SELECT body FROM calls WHERE id = ?1";

    ADD_MESSAGE = "INSERT INTO messages(id, queue, pool, root, job, call, first, items, shares, payload)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    ADD_PAYLOAD = "INSERT INTO payloads(id, body) VALUES (?1, ?2)";
    PAYLOAD = "SELECT body FROM payloads WHERE id = ?1";
    REMOVE_PAYLOAD = "DELETE FROM payloads WHERE id = ?1";
    HAS_READY_OF = "SELECT 1 FROM messages WHERE pool = ?1 AND job = ?2 AND owner = 0 LIMIT 1";
    WITHDRAW = "DELETE FROM messages WHERE id IN
        (SELECT id FROM messages WHERE pool = ?1 AND job = ?2 AND owner = 0 LIMIT ?3) RETURNING id, payload IS NULL";
    HOLDERS = "SELECT id, owner FROM messages WHERE pool = ?1 AND job = ?2 AND owner <> 0";

    IS_READY = "SELECT 1 FROM messages INDEXED BY ready WHERE queue = ?1 AND owner = 0 LIMIT 1";
    READY = "SELECT id, pool, root, job, call, first, items, shares, payload FROM messages INDEXED BY ready
        WHERE queue = ?1 AND owner = 0 ORDER BY id LIMIT ?2";
    LEASE = "UPDATE messages INDEXED BY ready SET owner = ?1 WHERE queue = ?2 AND owner = 0 AND id <= ?3";
    RELEASE = "UPDATE messages SET owner = 0 WHERE id = ?1 AND owner = ?2";
    END = "DELETE FROM messages WHERE id = ?1 AND owner = ?2";
    REPLY = "INSERT INTO replies(pool, message, kind, worker, took_us, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

    HAS_REPLIES = "SELECT 1 FROM replies WHERE pool = ?1 LIMIT 1";
    REPLIES = "SELECT message, kind, worker, took_us, body FROM replies WHERE pool = ?1 ORDER BY message LIMIT ?2";
    REMOVE_REPLIES = "DELETE FROM replies WHERE pool = ?1 AND message <= ?2";

    RAISE = "INSERT OR IGNORE INTO cancels(pool, job) VALUES (?1, ?2)";
    LOWER = "DELETE FROM cancels WHERE pool = ?1 AND job = ?2";
    // Holds only jobs that were cancelled and still run.
    RAISED = "SELECT pool, job FROM cancels";

    ADD_SHARE = "INSERT OR IGNORE INTO shares(key, pool, body) VALUES (?1, ?2, ?3)";
    SHARE = "SELECT body FROM shares WHERE key = ?1";
    HAS_SHARE = "SELECT 1 FROM shares WHERE key = ?1";
    REMOVE_SHARE = "DELETE FROM shares WHERE key = ?1";

    LEASED = "SELECT id, pool FROM messages INDEXED BY leased WHERE owner = ?1 AND owner <> 0";
    PURGE_PAYLOADS = "DELETE FROM payloads WHERE id IN (SELECT id FROM messages WHERE pool = ?1)";
    PURGE_READY = "DELETE FROM messages WHERE pool = ?1 AND owner = 0";
    PURGE_LEASED = "DELETE FROM messages WHERE pool = ?1 AND owner <> 0";
    PURGE_REPLIES = "DELETE FROM replies WHERE pool = ?1";
    PURGE_CALLS = "DELETE FROM calls WHERE pool = ?1";
    PURGE_CANCELS = "DELETE FROM cancels WHERE pool = ?1";
    PURGE_SHARES = "DELETE FROM shares WHERE pool = ?1";
}
