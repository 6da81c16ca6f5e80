//! Tests of the broker alone: rules of delivery, plans of statements, files that are no broker.

use super::*;
use crate::broker::Verdict;
use par_core::remote::Part;

fn place(folder: &tempfile::TempDir) -> Place {
    Place {
        path: folder.path().join("broker.db"),
        temporary: false,
        limit: None,
    }
}

fn joining(role: Role) -> Joining {
    Joining {
        role,
        queue: "q".to_owned(),
        lease: Duration::from_secs(30),
        initializer: None,
        leases: 64,
    }
}

fn pool(place: &Place) -> Arc<Sqlite> {
    Sqlite::join(place, joining(Role::Pool)).expect("a pool joins")
}

fn worker(place: &Place) -> Arc<Sqlite> {
    Sqlite::join(place, joining(Role::Worker { concurrency: 1 })).expect("a worker joins")
}

fn message(job: u64, payload: Vec<u8>) -> Outgoing {
    Outgoing {
        job,
        root: None,
        call: CallId(1),
        part: Part { first: 3, items: 1 },
        shares: Vec::new(),
        payload,
    }
}

fn reply(delivery: &Delivery, bytes: &[u8]) -> Settled {
    Settled {
        lease: delivery.lease,
        pool: delivery.pool,
        took: Duration::from_micros(7),
        verdict: Verdict::Reply(bytes.to_vec()),
        kept: false,
    }
}

#[test]
fn a_message_goes_to_one_worker_and_its_reply_to_its_pool() {
    let folder = tempfile::tempdir().expect("folder");
    let place = place(&folder);
    let (one, other) = (pool(&place), pool(&place));
    let (a, b) = (worker(&place), worker(&place));
    let large = vec![5; 100_000];
    let ids = one
        .publish(&[message(1, vec![9]), message(1, large.clone())])
        .expect("publish");
    let got = a.lease(10, 1 << 20).expect("lease");
    assert_eq!(got.iter().map(|d| d.lease.id).collect::<Vec<_>>(), ids);
    assert_eq!((&got[0].payload, &got[1].payload), (&vec![9], &large));
    assert_eq!(
        (got[0].pool, got[0].job, got[0].part),
        (one.me(), 1, Part { first: 3, items: 1 })
    );
    assert!(b.lease(10, 1 << 20).expect("lease").is_empty());
    assert!(a.begin(got[0].lease).expect("begin"));
    a.settle(&[reply(&got[0], b"out"), reply(&got[1], &large)])
        .expect("settle");
    assert!(other.collect(1 << 20).expect("collect").is_empty());
    let arrived = one.collect(1 << 30).expect("collect");
    assert_eq!(arrived.len(), 2);
    assert!(matches!(&arrived[0].verdict, Verdict::Reply(bytes) if bytes == b"out"));
    assert!(matches!(&arrived[1].verdict, Verdict::Reply(bytes) if *bytes == large));
    assert_eq!(
        (arrived[0].worker, arrived[0].took),
        (a.me(), Duration::from_micros(7))
    );
    assert!(one.collect(1 << 20).expect("collect").is_empty());
}

#[test]
fn what_a_buried_worker_had_begun_is_told_apart_and_it_begins_nothing_more() {
    let folder = tempfile::tempdir().expect("folder");
    let place = place(&folder);
    let (pool, worker) = (pool(&place), worker(&place));
    let ids = pool
        .publish(&[message(1, vec![]), message(1, vec![]), message(1, vec![])])
        .expect("publish");
    let got = worker.lease(10, 1 << 20).expect("lease");
    assert!(worker.begin(got[1].lease).expect("begin"));
    pool.bury(worker.me(), "it was shot").expect("bury");
    assert!(
        !worker.begin(got[0].lease).expect("begin"),
        "a fenced worker began a message"
    );
    worker.settle(&[reply(&got[1], b"late")]).expect("settle");
    assert!(matches!(worker.beat(), Err(BrokerError::Buried { .. })));
    let arrived = pool.collect(1 << 20).expect("collect");
    let fates: Vec<_> = arrived
        .iter()
        .map(|arrival| match &arrival.verdict {
            Verdict::Lost { begun, reason } => (arrival.id, *begun, &reason[..]),
            _ => panic!("a late reply arrived"),
        })
        .collect();
    assert_eq!(
        fates,
        [
            (ids[0], false, "it was shot"),
            (ids[1], true, "it was shot"),
            (ids[2], false, "it was shot")
        ]
    );
    // Once.
    pool.bury(worker.me(), "again").expect("bury");
    assert!(pool.collect(1 << 20).expect("collect").is_empty());
}

#[test]
fn an_outcome_that_was_kept_outlives_its_worker() {
    let folder = tempfile::tempdir().expect("folder");
    let place = place(&folder);
    let (pool, worker) = (pool(&place), worker(&place));
    let ids = pool
        .publish(&[message(1, vec![]), message(1, vec![])])
        .expect("publish");
    let got = worker.lease(10, 1 << 20).expect("lease");
    assert!(worker.begin(got[0].lease).expect("begin") && worker.keep(&reply(&got[0], b"done")));
    assert!(worker.begin(got[1].lease).expect("begin"));
    pool.bury(worker.me(), "it was shot").expect("bury");
    let arrived = pool.collect(1 << 20).expect("collect");
    assert_eq!(arrived.iter().map(|arrival| arrival.id).collect::<Vec<_>>(), ids);
    assert!(matches!(&arrived[0].verdict, Verdict::Reply(bytes) if bytes == b"done"));
    assert!(matches!(&arrived[1].verdict, Verdict::Lost { begun: true, .. }));
}

#[test]
fn a_peer_whose_lock_is_gone_is_dead_and_one_that_leaves_takes_its_messages_along() {
    let folder = tempfile::tempdir().expect("folder");
    let place = place(&folder);
    let (one, two) = (pool(&place), pool(&place));
    assert!(!two.is_dead(one.me()));
    one.publish(&[message(1, vec![0; 10_000])]).expect("publish");
    one.put_share(b"key", b"value").expect("share");
    let me = one.me();
    drop(one);
    assert!(two.is_dead(me));
    two.bury(me, "gone").expect("bury");
    assert!(worker(&place).lease(1, 1).expect("lease").is_empty());
    assert!(!two.has_share(b"key").expect("share"));
    let left: i64 = two
        .with(|db| db.query_row("SELECT count(*) FROM payloads", [], |row| row.get(0)))
        .expect("count");
    assert_eq!(left, 0);
    two.leave().expect("leave");
}

#[test]
fn withdrawn_messages_are_not_leased_and_leased_ones_are_not_withdrawn() {
    let folder = tempfile::tempdir().expect("folder");
    let place = place(&folder);
    let (pool, worker) = (pool(&place), worker(&place));
    let ids = pool
        .publish(&[message(1, vec![]), message(1, vec![]), message(2, vec![])])
        .expect("publish");
    let got = worker.lease(1, 1 << 20).expect("lease");
    assert_eq!(got[0].lease.id, ids[0]);
    assert_eq!(pool.withdraw(1, usize::MAX).expect("withdraw"), [ids[1]]);
    assert_eq!(pool.holders(1).expect("holders"), [(worker.me(), false)]);
    assert!(worker.begin(got[0].lease).expect("begin"));
    assert_eq!(pool.holders(1).expect("holders"), [(worker.me(), true)]);
    assert_eq!(worker.lease(9, 1 << 20).expect("lease")[0].lease.id, ids[2]);
}

#[test]
fn what_waits_is_counted_through_all_that_changes_it() {
    let folder = tempfile::tempdir().expect("folder");
    let place = place(&folder);
    let (one, other, worker) = (pool(&place), pool(&place), worker(&place));
    let counted = |expected: u64, after: &str| {
        let rows: i64 = worker
            .with(|db| {
                let rows = "SELECT count(*) FROM messages WHERE owner = 0";
                db.query_row(rows, [], |row| row.get(0))
            })
            .expect("count");
        assert_eq!(worker.waiting().expect("waiting"), expected, "after {after}");
        assert_eq!(rows as u64, expected, "rows after {after}");
    };
    let batch = |job| -> Vec<_> { (0..10).map(|_| message(job, vec![])).collect() };
    one.publish(&batch(1)).expect("publish");
    other.publish(&batch(1)).expect("publish");
    counted(20, "two publish");
    let got = worker.lease(4, 1 << 20).expect("lease");
    counted(16, "a lease");
    worker.release(&[got[0].lease]).expect("release");
    counted(17, "a release");
    worker.settle(&[reply(&got[1], b"out")]).expect("settle");
    counted(17, "a reply");
    one.withdraw(1, 3).expect("withdraw");
    counted(14, "a withdrawal");
    one.bury(other.me(), "gone").expect("bury");
    counted(4, "the end of a pool");
    one.bury(worker.me(), "gone").expect("bury");
    counted(4, "the end of a worker");
    worker.release(&[got[2].lease]).expect("release");
    counted(4, "a late release");
    one.leave().expect("leave");
    counted(0, "the end of the last pool");
}

#[test]
fn numbers_of_calls_are_never_used_again() {
    let folder = tempfile::tempdir().expect("folder");
    let place = place(&folder);
    let one = pool(&place);
    let first = one.store_call(b"first").expect("store");
    one.leave().expect("leave");
    let two = pool(&place);
    let second = two.store_call(b"second").expect("store");
    assert_ne!(first, second);
    assert_eq!(two.call(two.me(), first).expect("look"), None);
    assert_eq!(
        two.call(two.me(), second).expect("look"),
        Some(b"second".to_vec())
    );
}

#[test]
fn no_statement_reads_rows_that_it_does_not_want() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = pool(&place(&folder));
    // Tables that hold one row a process, or only what was cancelled and still runs.
    let whole = ["PEERS", "RAISED"];
    for (name, text) in sql::ALL {
        let plan: Vec<String> = broker
            .with(|db| {
                let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {text}"))?;
                let parameters = statement.parameter_count();
                let rows =
                    statement.query_map(rusqlite::params_from_iter(vec![1; parameters]), |row| row.get(3))?;
                rows.collect()
            })
            .expect(name);
        let scans: Vec<_> = plan.iter().filter(|step| step.starts_with("SCAN")).collect();
        assert!(scans.is_empty() || whole.contains(name), "{name} scans: {plan:?}");
        assert!(
            plan.iter().all(|step| !step.contains("TEMP B-TREE")),
            "{name} sorts: {plan:?}"
        );
    }
}

#[test]
fn files_that_are_no_broker_are_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let place = place(&folder);
    let error = |place: &Place| {
        Sqlite::join(place, joining(Role::Pool))
            .err()
            .expect("refused")
            .to_string()
    };
    let path = place.path.display().to_string();

    let text =
        b"Once upon a time there was a text file that nobody wanted to lose. It is longer than a header."
            .repeat(20);
    std::fs::write(&place.path, &text).expect("write");
    assert_eq!(
        error(&place),
        format!("{path} is no broker of this toolkit: file is not a database")
    );
    assert_eq!(std::fs::read(&place.path).expect("read"), text);

    std::fs::remove_file(&place.path).expect("remove");
    Connection::open(&place.path)
        .expect("open")
        .execute_batch("CREATE TABLE diary(day TEXT)")
        .expect("table");
    let before = std::fs::read(&place.path).expect("read");
    assert_eq!(
        error(&place),
        format!(
            "{path} is no broker of this toolkit: it is an SQLite database of another program, with 1 table(s) and indexes"
        )
    );
    assert_eq!(std::fs::read(&place.path).expect("read"), before);

    std::fs::remove_file(&place.path).expect("remove");
    drop(pool(&place));
    Connection::open(&place.path)
        .expect("open")
        .pragma_update(None, "user_version", 7)
        .expect("version");
    assert_eq!(
        error(&place),
        format!("the broker {path} has schema version 7, this program knows versions up to 1")
    );

    let nowhere = Place {
        path: folder.path().join("no/such/folder/broker.db"),
        ..place.clone()
    };
    assert_eq!(
        error(&nowhere),
        format!(
            "cannot open the broker {}: No such file or directory (os error 2)",
            nowhere.path.display()
        )
    );
}

#[test]
fn a_full_file_says_so_and_works_again_once_there_is_room() {
    let folder = tempfile::tempdir().expect("folder");
    let place = Place {
        limit: Some(400 << 10),
        ..place(&folder)
    };
    let (pool, worker) = (pool(&place), worker(&place));
    let error = pool
        .publish(&[message(1, vec![1; 1 << 20])])
        .expect_err("full")
        .to_string();
    assert_eq!(
        error,
        format!(
            "the broker {} has no room: database or disk is full",
            place.path.display()
        )
    );
    pool.publish(&[message(1, vec![1; 1000])])
        .expect("a small one fits");
    assert_eq!(worker.lease(9, 1 << 20).expect("lease").len(), 1);
}
