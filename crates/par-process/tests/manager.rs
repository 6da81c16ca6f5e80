//! Managers used by several processes, over both kinds of sockets, and what is left when they or their clients die.

mod common;

use common::{PATIENCE, alone, is_stopped, lives, signal, until};
use par_process::manager::{
    Counter, Dict, Event, Key, List, Lock, Manager, ManagerError, Namespace, Queue, QueueError, within,
};
use par_process::{Pipe, Process, ProcessPool, Receiver, Sender, managed, task};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

const BRIEF: Duration = Duration::from_millis(50);

fn tcp() -> Manager {
    Manager::builder()
        .tcp(([127, 0, 0, 1], 0).into())
        .start()
        .expect("starts")
}

fn ended(child: &Process) {
    assert_eq!(child.join_timeout(PATIENCE).expect("waits"), Some(0));
}

#[derive(Clone, Serialize, Deserialize)]
struct Everything {
    dict: Dict<String, Vec<u8>>,
    list: List<u32>,
    names: Namespace,
    counter: Counter,
    queue: Queue<String>,
    lock: Lock,
    event: Event,
}

fn use_everything((all, who): (Everything, u8)) {
    let (name, long) = (format!("long {who}"), vec![who; 100_000]);
    assert_eq!(all.dict.get(&"given".to_owned()).expect("lives"), Some(vec![9]));
    assert_eq!(all.dict.insert(&name, &long).expect("lives"), None);
    assert_eq!(all.dict.get(&name).expect("lives"), Some(long));
    all.list.push(&7).expect("lives");
    assert!(all.list.insert(0, &5).expect("lives"));
    assert!(!all.list.insert(99, &5).expect("lives"));
    assert_eq!(
        all.names.get::<String>("parent").expect("lives"),
        Some("here".to_owned())
    );
    all.names.set("child", &std::process::id()).expect("lives");
    for _ in 0..100 {
        let guard = all.lock.lock().expect("lives");
        let number = all.counter.get().expect("lives");
        all.counter.set(number + 1).expect("lives");
        guard.unlock().expect("held");
    }
    all.queue.put(&"from the child".to_owned()).expect("open");
    all.event.wait().expect("lives");
}

#[test]
fn every_kind_of_object_serves_several_processes() {
    alone(|| {
        for manager in [Manager::start().expect("starts"), tcp()] {
            let all = Everything {
                dict: manager.dict().expect("made"),
                list: manager.list().expect("made"),
                names: manager.namespace().expect("made"),
                counter: manager.counter(-5).expect("made"),
                queue: manager.queue(1).expect("made"),
                lock: manager.lock().expect("made"),
                event: manager.event().expect("made"),
            };
            all.dict.extend([("given".to_owned(), vec![9])]).expect("lives");
            all.names.set("parent", "here").expect("lives");
            let start = |who| {
                Process::of_fn((all.clone(), who), use_everything)
                    .start()
                    .expect("starts")
            };
            let children: Vec<_> = (0..3).map(start).collect();
            for _ in &children {
                assert_eq!(
                    all.queue.get_timeout(PATIENCE).expect("an item"),
                    "from the child"
                );
            }
            all.event.set().expect("lives");
            children.iter().for_each(ended);
            assert_eq!(all.counter.get().expect("lives"), -5 + 300);
            assert_eq!(all.list.len().expect("lives"), 6);
            assert_eq!(all.dict.len().expect("lives"), 4);
            assert_eq!(all.dict.keys().expect("lives")[0], "given");
            assert_eq!(all.names.names().expect("lives"), ["parent", "child"]);
            let key = "given".to_owned();
            let swapped = all
                .dict
                .compare_exchange(&key, Some(&vec![8]), None)
                .expect("lives");
            assert_eq!(swapped, Err(Some(vec![9])));
            let swapped = all
                .dict
                .compare_exchange(&key, Some(&vec![9]), None)
                .expect("lives");
            assert_eq!(swapped, Ok(()));
            assert!(!all.dict.contains(&key).expect("lives"));
            let wrong = all.names.get::<Vec<String>>("child");
            assert!(matches!(wrong, Err(ManagerError::Codec(_))), "{wrong:?}");
        }
    });
}

/// The number of objects, until it is this.
#[track_caller]
fn until_objects(manager: &Manager, count: u64) {
    until("so many objects", || manager.objects().expect("lives") == count);
}

#[test]
fn an_object_lives_while_a_proxy_does() {
    alone(|| {
        let manager = Manager::start().expect("starts");
        let (receiver, sender) = Pipe::one_way().expect("a pipe");
        // The child makes an object, sends the proxy and ends: what is on its way keeps it until the child's end, and then
        // whoever has it by then.
        let (go, wait) = Pipe::one_way().expect("a pipe");
        let make = |(address, key, sender, go): (_, Key, Sender, Receiver)| {
            let manager = Manager::connect(&address, &key).expect("lives");
            let counter = manager.counter(41).expect("made");
            sender.send(counter).expect("sent");
            go.recv::<()>().expect("comes");
        };
        let work = (manager.address().clone(), manager.key().clone(), sender, go);
        let child = Process::of_fn(work, make).start().expect("starts");
        let counter: Counter = receiver.recv().expect("comes");
        assert_eq!(counter.add(1).expect("lives"), 42);
        wait.send(()).expect("sent");
        ended(&child);
        assert_eq!(counter.get().expect("lives"), 42);
        until_objects(&manager, 1);
        let again = counter.clone();
        drop(counter);
        assert_eq!(again.get().expect("lives"), 42);
        drop(again);
        until_objects(&manager, 0);
    });
}

#[test]
fn a_killed_client_leaves_neither_references_nor_locks() {
    alone(|| {
        for manager in [Manager::start().expect("starts"), tcp()] {
            let lock = manager.lock().expect("made");
            let (receiver, sender) = Pipe::one_way().expect("a pipe");
            let hold = |(lock, address, key, sender): (Lock, _, Key, Sender)| {
                let manager = Manager::connect(&address, &key).expect("lives");
                let _list = manager.list::<u8>().expect("made");
                let _guard = lock.lock().expect("free");
                sender.send(()).expect("sent");
                std::thread::sleep(PATIENCE);
            };
            let work = (
                lock.clone(),
                manager.address().clone(),
                manager.key().clone(),
                sender,
            );
            let holder = Process::of_fn(work, hold).start().expect("starts");
            receiver.recv::<()>().expect("comes");
            assert_eq!(manager.objects().expect("lives"), 2);
            assert!(lock.try_lock().expect("lives").is_none());
            assert!(lock.lock_timeout(BRIEF).expect("lives").is_none());
            // One that waits and is killed gets it as little as one that is stopped keeps it from dying.
            let wait = |(lock, started): (Lock, Sender)| {
                started.send(lock.is_locked().expect("lives")).expect("sent");
                let _guard = lock.lock();
                std::thread::sleep(PATIENCE);
            };
            let (started, starts) = Pipe::one_way().expect("a pipe");
            let waiter = Process::of_fn((lock.clone(), starts), wait)
                .daemon(true)
                .start()
                .expect("starts");
            assert!(started.recv::<bool>().expect("comes"));
            signal(waiter.pid(), Signal::STOP);
            until("it is stopped", || is_stopped(waiter.pid()));
            waiter.kill().expect("signals");
            assert_eq!(waiter.join().expect("ends"), -9);
            holder.kill().expect("signals");
            let guard = lock.lock_timeout(PATIENCE).expect("lives").expect("free");
            assert!(lock.is_locked().expect("lives"));
            guard.unlock().expect("held");
            until_objects(&manager, 1);
        }
    });
}

#[test]
fn after_the_managers_death_every_call_ends_at_once() {
    alone(|| {
        for manager in [Manager::start().expect("starts"), tcp()] {
            let dict = manager.dict::<u32, u32>().expect("made");
            let queue = manager.queue::<u32>(1).expect("made");
            let lock = manager.lock().expect("made");
            let guard = lock.lock().expect("free");
            let waits = (queue.clone(), lock.clone());
            let getter = std::thread::spawn(move || waits.0.get());
            let locker = std::thread::spawn(move || waits.1.lock());
            let bytes = par_process::par_core::wire::to_bytes(&dict).expect("encodes");
            manager.process().expect("its own").kill().expect("signals");
            let got = getter.join().expect("no panic");
            assert!(
                matches!(got, Err(QueueError::Manager(ManagerError::Gone { .. }))),
                "{got:?}"
            );
            let locked = locker.join().expect("no panic");
            assert!(matches!(locked, Err(ManagerError::Gone { .. })), "{locked:?}");
            assert!(matches!(guard.unlock(), Err(ManagerError::Gone { .. })));
            let started = Instant::now();
            for _ in 0..100 {
                assert!(matches!(dict.get(&1), Err(ManagerError::Gone { .. })));
            }
            assert!(started.elapsed() < Duration::from_secs(5));
            let text = dict.get(&1).expect_err("gone").to_string();
            assert!(
                text.starts_with(&format!("the manager at {} is gone: ", manager.address())),
                "{text}"
            );
            // Bytes can still be read; calls say what is wrong.
            let late: Dict<u32, u32> = par_process::par_core::wire::from_bytes(&bytes).expect("decodes");
            assert!(matches!(late.get(&1), Err(ManagerError::Gone { .. })));
            let again = Manager::connect(manager.address(), manager.key());
            assert!(matches!(again, Err(ManagerError::Gone { .. })), "{again:?}");
        }
    });
}

#[test]
fn a_stopped_manager_is_waited_for_until_the_deadline() {
    alone(|| {
        let manager = Manager::start().expect("starts");
        let counter = manager.counter(1).expect("made");
        let pid = manager.process().expect("its own").pid();
        signal(pid, Signal::STOP);
        until("it is stopped", || is_stopped(pid));
        let started = Instant::now();
        let late = within(BRIEF, || counter.get());
        assert!(matches!(late, Err(ManagerError::TimedOut)), "{late:?}");
        // Now without a connection that is open.
        let late = within(BRIEF, || counter.get());
        assert!(matches!(late, Err(ManagerError::TimedOut)), "{late:?}");
        assert!(started.elapsed() >= BRIEF && started.elapsed() < PATIENCE);
        signal(pid, Signal::CONT);
        assert_eq!(within(PATIENCE, || counter.get()).expect("lives"), 1);
    });
}

#[test]
fn keys_names_and_kinds_are_checked() {
    alone(|| {
        for manager in [Manager::start().expect("starts"), tcp()] {
            let wrong = Manager::connect(manager.address(), &Key::from("guess"));
            assert!(
                matches!(&wrong, Err(ManagerError::WrongKey(at)) if at == manager.address()),
                "{wrong:?}"
            );
            let counter = manager.counter(3).expect("made");
            manager.publish("three", &counter).expect("published");
            drop(counter);
            let client = Manager::connect(manager.address(), manager.key()).expect("lives");
            assert_eq!(
                client
                    .find::<Counter>("three")
                    .expect("there")
                    .get()
                    .expect("lives"),
                3
            );
            let text = client.find::<Lock>("three").expect_err("a counter").to_string();
            assert_eq!(text, "the object named \"three\" is of kind counter, not lock");
            let text = client.find::<Lock>("four").expect_err("none").to_string();
            assert!(text.contains("it knows [\"three\"]"), "{text}");
            let text = manager.queue::<u8>(0).expect_err("no room").to_string();
            assert_eq!(text, "capacity of a queue: 0, expected at least 1");
            drop(client);
            assert_eq!(manager.objects().expect("a client does not end it"), 1);
        }
        let other = Manager::start().expect("starts");
        let manager = Manager::start().expect("starts");
        let foreign = manager.publish("x", &other.counter(1).expect("made"));
        assert!(matches!(foreign, Err(ManagerError::NoObject(_))), "{foreign:?}");
        let nobody = Manager::connect(
            &"unix:par-process-nobody".parse().expect("an address"),
            &Key::from("k"),
        );
        assert!(matches!(nobody, Err(ManagerError::Gone { .. })), "{nobody:?}");
    });
}

#[derive(Serialize, Deserialize)]
struct Account {
    balance: i64,
}

impl Account {
    fn deposit(&mut self, amount: i64) -> i64 {
        self.balance += amount;
        assert!(self.balance >= 0, "a balance of {}", self.balance);
        self.balance
    }

    fn transfer(&mut self, from: i64, note: &Option<String>) {
        self.balance += from + note.as_ref().map_or(0, |note| note.len() as i64);
    }

    fn note(&mut self, from: i64, note: Option<String>) {
        self.transfer(from, &note);
    }
}

managed! {
    /// An account that several processes use.
    AccountProxy for Account {
        /// Adds to the balance.
        fn deposit(amount: i64) -> i64;
        fn note(from: i64, note: Option<String>);
    }
}

#[task]
fn pay(account: AccountProxy, amount: i64) -> i64 {
    account.deposit(amount).expect("the manager lives")
}

#[test]
fn a_users_type_is_owned_and_panics_are_told() {
    alone(|| {
        let manager = Manager::start().expect("starts");
        let account = manager.own(Account { balance: 1 }).expect("owned");
        account.note(2, Some("abc".to_owned())).expect("lives");
        // As an argument of tasks of a pool, which are encoded and decoded many times.
        let pool = ProcessPool::new(2).expect("starts");
        let payments = (0..50).map(|_| (account.clone(), 2));
        let balances = pool.map::<pay>(payments).expect("paid");
        assert_eq!(balances.iter().max(), Some(&106));
        drop(pool);
        let error = account.deposit(-500).expect_err("a panic");
        assert!(
            matches!(&error, ManagerError::Panicked(text) if text == "a balance of -394"),
            "{error:?}"
        );
        assert_eq!(account.deposit(400).expect("it goes on"), 6);
    });
}

#[test]
fn an_interrupt_leaves_the_manager_to_its_parent() {
    alone(|| {
        let manager = Manager::start().expect("starts");
        let counter = manager.counter(1).expect("made");
        signal(manager.process().expect("its own").pid(), Signal::INT);
        assert_eq!(counter.add(1).expect("lives"), 2);
        manager.shutdown();
        assert!(matches!(counter.get(), Err(ManagerError::Gone { .. })));
    });
}

#[test]
fn a_manager_ends_with_the_process_that_started_it() {
    alone(|| {
        let (receiver, sender) = Pipe::one_way().expect("a pipe");
        let parent = Process::of_fn(sender, |sender: Sender| {
            let manager = Manager::start().expect("starts");
            let counter = manager.counter(7).expect("made");
            sender
                .send((manager.process().expect("its own").pid(), counter))
                .expect("sent");
            std::thread::sleep(PATIENCE);
        });
        let parent = parent.start().expect("starts");
        let (pid, counter): (u32, Counter) = receiver.recv().expect("comes");
        assert_eq!(counter.get().expect("lives"), 7);
        signal(pid, Signal::STOP);
        parent.kill().expect("signals");
        assert_eq!(parent.join().expect("ends"), -9);
        until("the manager has ended", || !lives(pid));
        assert!(matches!(counter.get(), Err(ManagerError::Gone { .. })));
    });
}
