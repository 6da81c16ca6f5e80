//! A transactional outbox: a task is sent if, and only if, the user's own transaction is committed.
//!
//! An order and the task that confirms it are written in one transaction of the shop's database. A relay sends what it finds there, and forgets it
//! after that. It may die in between, and send once more: the key of the call makes that harmless.

use par_dist::app::{App, Prepared};
use par_dist::task;
use rusqlite::{Connection, Result};
use std::time::Duration;

#[task(name = "shop.confirm")]
fn confirm(order: i64) -> String {
    format!("order {order} is confirmed")
}

fn order(db: &mut Connection, app: &App, item: &str) -> Result<i64, Box<dyn std::error::Error>> {
    let tx = db.transaction()?;
    tx.execute("INSERT INTO orders (item) VALUES (?)", [item])?;
    let number = tx.last_insert_rowid();
    let call = app
        .call::<confirm>(number)
        .idempotency_key(&format!("confirm {number}"));
    let text = serde_json::to_string(&call.prepare()?)?;
    tx.execute("INSERT INTO outbox (call) VALUES (?)", [text])?;
    if item == "nothing" {
        return Err("that is not sold".into()); // neither the order nor the task
    }
    tx.commit()?;
    Ok(number)
}

/// What a thread or a program of its own does from time to time.
fn relay(db: &Connection, app: &App) -> Result<usize, Box<dyn std::error::Error>> {
    let mut rows = db.prepare("SELECT id, call FROM outbox ORDER BY id LIMIT 100")?;
    let rows = rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let mut sent = 0;
    for row in rows {
        let (id, text) = row?;
        app.send_prepared([serde_json::from_str::<Prepared>(&text)?])?;
        db.execute("DELETE FROM outbox WHERE id = ?", [id])?;
        sent += 1;
    }
    Ok(sent)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut db = Connection::open_in_memory()?;
    db.execute_batch(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT);
         CREATE TABLE outbox (id INTEGER PRIMARY KEY, call TEXT);",
    )?;
    let app = App::builder("shop").broker("memory:").task::<confirm>().build()?;
    let number = order(&mut db, &app, "a book")?;
    println!(
        "nothing: {}",
        order(&mut db, &app, "nothing").expect_err("it is not sold")
    );
    // As if it had died before it forgot what it had sent.
    let again: String = db.query_row("SELECT call FROM outbox", [], |row| row.get(0))?;
    println!("{} sent", relay(&db, &app)?);
    let again: Prepared = serde_json::from_str(&again)?;
    let id = again.id().to_owned();
    app.send_prepared([again])?;
    let _worker = app.worker().start()?;
    println!(
        "{number}: {}",
        app.result::<String>(&id).get(Duration::from_secs(60))?
    );
    Ok(())
}
