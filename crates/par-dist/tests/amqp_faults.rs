//! RabbitMQ is killed, restarted and stopped in the middle of a pool's tasks. A server for each test.

#[path = "support/rabbit.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod rabbit;
#[path = "support/survive.rs"]
mod survive;

use rabbit::Rabbit;
use std::time::Duration;

fn survive(fault: impl FnOnce(&mut Rabbit)) {
    let mut server = Rabbit::start().expect("a server");
    // So that a connection that is stopped, not closed, is given up soon.
    let broker = format!("{}?heartbeat=2", server.url());
    survive::survive(&broker, 25_000, || fault(&mut server));
}

#[test]
fn killed() {
    survive(|server| {
        server.kill().expect("kill");
        server.start_again().expect("start");
    });
}

#[test]
fn restarted() {
    survive(|server| {
        server.stop().expect("stop");
        server.start_again().expect("start");
    });
}

#[test]
fn stopped_for_longer_than_its_heartbeat() {
    survive(|server| {
        server.freeze().expect("stop");
        // Its connections are given up after twice the heartbeat: that long, and a little.
        std::thread::sleep(Duration::from_secs(7));
        server.thaw().expect("go on");
    });
}

#[test]
fn a_server_that_stays_away_ends_every_wait() {
    let mut server = Rabbit::start().expect("a server");
    let url = server.url();
    let reason = survive::stays_away(&url, || server.kill().expect("kill"));
    let expected = format!("the broker {url} failed: it was out of reach for 1 s: ");
    assert!(reason.starts_with(&expected), "{reason}");
}
