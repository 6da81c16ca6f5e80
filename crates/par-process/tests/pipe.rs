//! Pipes across processes: values and bytes, ends and files within messages, and what goes wrong.

mod common;

use common::{PATIENCE, alone, is_stopped, signal, until};
use par_process::{
    Connection, Descriptor, Pipe, Process, Receiver, RecvError, SendError, Sender, task, wait,
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const BRIEF: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Message {
    name: String,
    numbers: Vec<f64>,
}

fn echo(far: Connection) {
    while let Ok(message) = far.recv::<Message>() {
        far.send(message).expect("the parent waits for it");
    }
}

#[test]
fn values_of_every_length_come_back() {
    alone(|| {
        let (near, far) = Pipe::duplex().expect("a pipe");
        let child = Process::of_fn(far, echo).start().expect("starts");
        // Around what a datagram holds, and far beyond.
        for length in [0, 1, 100, 8_180, 8_190, 8_191, 8_192, 20_000, 2_000_000] {
            let message = Message {
                name: format!("{length} numbers"),
                numbers: (0..length).map(f64::from).collect(),
            };
            near.send(message.clone()).expect("sent");
            assert_eq!(
                near.recv_timeout::<Message>(PATIENCE).expect("comes back"),
                message
            );
        }
        drop(near);
        assert_eq!(child.join_timeout(PATIENCE).expect("waits"), Some(0));
    });
}

#[task]
fn shout(word: String, to: Sender) {
    to.send(word.to_uppercase()).expect("the parent waits for it");
}

#[test]
fn a_task_takes_an_end_as_any_argument() {
    alone(|| {
        let (receiver, sender) = Pipe::one_way().expect("a pipe");
        let child = Process::new::<shout>(("hello".to_owned(), sender))
            .start()
            .expect("starts");
        assert_eq!(receiver.recv_timeout::<String>(PATIENCE).expect("comes"), "HELLO");
        let end = receiver.recv_timeout::<String>(PATIENCE);
        assert!(matches!(end, Err(RecvError::Closed)), "{end:?}");
        assert_eq!(child.join().expect("ends"), 0);
    });
}

#[test]
fn bytes_are_bytes_and_values_are_values() {
    alone(|| {
        let (near, far) = Pipe::duplex().expect("a pipe");
        let long = vec![7; 1 << 20];
        for bytes in [&b""[..], b"a\0b", &long] {
            near.send_bytes(bytes).expect("sent");
            assert_eq!(far.recv_bytes_timeout(PATIENCE).expect("comes"), bytes);
        }
        near.send_bytes(b"raw").expect("sent");
        let error = far.recv::<String>().expect_err("no value").to_string();
        assert_eq!(
            error,
            "a message came that holds raw bytes, where a value was expected"
        );
        near.send("text").expect("sent");
        let error = far.recv_bytes().expect_err("no bytes").to_string();
        assert_eq!(
            error,
            "a message came that holds a value, where raw bytes was expected"
        );
        near.send(1u8).expect("sent");
        let error = far.recv::<String>().expect_err("another type");
        assert!(matches!(error, RecvError::Message(_)), "{error:?}");
        // The pipe goes on.
        near.send("text").expect("sent");
        assert_eq!(far.recv::<String>().expect("comes"), "text");
    });
}

#[test]
fn the_end_of_file_comes_with_the_last_writer() {
    alone(|| {
        let (receiver, sender) = Pipe::one_way().expect("a pipe");
        let hold = |sender: Sender| {
            sender.send(std::process::id()).expect("sent");
            std::thread::sleep(PATIENCE);
        };
        let children: Vec<Process> = (0..3)
            .map(|_| {
                let sender = sender.try_clone().expect("files");
                Process::of_fn(sender, hold).start().expect("starts")
            })
            .collect();
        drop(sender);
        for _ in &children {
            receiver.recv_timeout::<u32>(PATIENCE).expect("comes");
        }
        for child in &children {
            assert!(!receiver.poll(BRIEF).expect("waits"));
            let none = receiver.recv_timeout::<u32>(BRIEF);
            assert!(matches!(none, Err(RecvError::Empty)), "{none:?}");
            child.kill().expect("signals");
            assert_eq!(child.join().expect("ends"), -9);
        }
        assert!(receiver.poll(PATIENCE).expect("waits"));
        assert!(matches!(receiver.recv::<u32>(), Err(RecvError::Closed)));
        assert!(matches!(receiver.try_recv::<u32>(), Err(RecvError::Closed)));
    });
}

#[test]
fn a_full_pipe_waits_for_its_reader_and_hands_back_what_a_dead_one_left() {
    alone(|| {
        let (near, far) = Pipe::duplex().expect("a pipe");
        // It reads one message for each that it is told to.
        let child = Process::of_fn(far, |far: Connection| {
            far.send(0).expect("sent");
            assert_eq!(far.recv::<Vec<u8>>().expect("comes").len(), 50_000);
            far.send(1).expect("sent");
            std::thread::sleep(PATIENCE);
        });
        // Should this fail, nobody waits for a process that is stopped.
        let child = child.daemon(true).start().expect("starts");
        assert_eq!(near.recv::<i32>().expect("comes"), 0);
        let message = || vec![1u8; 50_000];
        let mut sent = 0;
        let back = loop {
            match near.try_send(message()) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 100, "a pipe without a bound");
        };
        assert!(matches!(&back, SendError::Full(_)), "{back:?}");
        assert_eq!(back.into_inner(), message());
        assert!(sent >= 2, "{sent}");
        assert_eq!(near.recv::<i32>().expect("comes"), 1);
        signal(child.pid(), Signal::STOP);
        until("the reader is stopped", || is_stopped(child.pid()));
        // What it has read before made room.
        while near.try_send(message()).is_ok() {}
        let started = Instant::now();
        let late = near.send_timeout(message(), BRIEF);
        assert!(matches!(late, Err(SendError::Full(_))), "{late:?}");
        assert!(started.elapsed() >= BRIEF && started.elapsed() < PATIENCE);
        // One thread waits in the system while the reader dies.
        let blocked = std::thread::spawn(move || near.send(message()).map(|()| near));
        child.kill().expect("signals");
        child.join().expect("ends");
        let error = blocked.join().expect("no panic").expect_err("nobody reads");
        assert!(matches!(&error, SendError::Closed(_)), "{error:?}");
        assert_eq!(error.into_inner(), message());
    });
}

#[test]
fn a_pipe_of_long_messages_is_bounded_as_well() {
    alone(|| {
        let (_receiver, sender) = Pipe::one_way().expect("a pipe");
        let sent = (0..100)
            .take_while(|_| sender.send_bytes_timeout(&vec![0; 1 << 20], BRIEF).is_ok())
            .count();
        assert!((1..10).contains(&sent), "{sent} messages of 1 MiB");
    });
}

#[test]
fn messages_carry_ends_and_files() {
    alone(|| {
        let (near, far) = Pipe::duplex().expect("a pipe");
        // A child that gets the end of another pipe, and a file, through the pipe that it has.
        let child = Process::of_fn(far, |far: Connection| {
            let (answers, file): (Connection, Descriptor) = far.recv().expect("comes");
            let mut text = String::new();
            File::from(file).read_to_string(&mut text).expect("text");
            let (receiver, sender) = Pipe::one_way().expect("a pipe");
            answers.send((text, receiver)).expect("sent");
            sender.send("at last").expect("sent");
        });
        let child = child.start().expect("starts");
        let (answers, theirs) = Pipe::duplex().expect("a pipe");
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"within").expect("written");
        std::io::Seek::rewind(&mut file).expect("a file");
        near.send((theirs, Descriptor::from(file))).expect("sent");
        let (text, receiver): (String, Receiver) = answers.recv().expect("comes");
        assert_eq!(text, "within");
        assert_eq!(receiver.recv::<String>().expect("comes"), "at last");
        assert!(matches!(receiver.recv::<String>(), Err(RecvError::Closed)));
        // The child had the only other ends of these.
        assert!(matches!(answers.recv::<()>(), Err(RecvError::Closed)));
        assert_eq!(child.join().expect("ends"), 0);
    });
}

#[test]
fn a_long_message_with_files_arrives_whole() {
    alone(|| {
        let (near, far) = Pipe::duplex().expect("a pipe");
        let (receiver, sender) = Pipe::one_way().expect("a pipe");
        near.send((vec![9u8; 300_000], sender)).expect("sent");
        let (bytes, sender): (Vec<u8>, Sender) = far.recv().expect("comes");
        assert_eq!(bytes, vec![9; 300_000]);
        sender.send(5).expect("sent");
        assert_eq!(receiver.recv::<i32>().expect("comes"), 5);
    });
}

#[test]
fn what_is_longer_than_allowed_is_refused_on_both_sides() {
    alone(|| {
        let (mut near, mut far) = Pipe::duplex().expect("a pipe");
        near.set_longest(1_000);
        let error = near.send(vec![0u8; 2_000]).expect_err("too long");
        assert!(
            error
                .to_string()
                .contains("2002 bytes is claimed, 1000 are allowed"),
            "{error}"
        );
        assert_eq!(error.into_inner().len(), 2_000);
        far.set_longest(10);
        for length in [500, 900] {
            near.send(vec![0u8; length]).expect("sent");
            let error = far.recv::<Vec<u8>>().expect_err("too long").to_string();
            assert!(error.contains("10 are allowed"), "{error}");
        }
        near.send(1u8).expect("sent");
        assert_eq!(far.recv::<u8>().expect("comes"), 1);
    });
}

#[test]
fn a_process_at_its_limit_of_files_is_told_so() {
    alone(|| {
        let (near, far) = Pipe::duplex().expect("a pipe");
        let child = Process::of_fn(far, |far: Connection| {
            let limit = Rlimit {
                current: Some(64),
                maximum: getrlimit(Resource::Nofile).maximum,
            };
            setrlimit(Resource::Nofile, limit).expect("a lower limit");
            let mut held = Vec::new();
            while let Ok(file) = File::open("/dev/null") {
                held.push(file);
            }
            assert!(Pipe::duplex().is_err());
            let long = far.send(vec![0u8; 100_000]).expect_err("no memory file");
            assert!(
                matches!(&long, SendError::Io(value, _) if value.len() == 100_000),
                "{long:?}"
            );
            far.send("full").expect("a short message needs no file");
            let lost = far.recv::<Descriptor>();
            assert!(matches!(lost, Err(RecvError::Files)), "{lost:?}");
            held.truncate(10);
            far.send("free").expect("sent");
            far.recv::<Descriptor>().expect("comes");
            far.recv::<Vec<u8>>().expect("comes");
        });
        let child = child.start().expect("starts");
        let null = || Descriptor::from(File::open("/dev/null").expect("a file of the system"));
        assert_eq!(near.recv::<String>().expect("comes"), "full");
        near.send(null()).expect("sent");
        assert_eq!(near.recv::<String>().expect("comes"), "free");
        near.send(null()).expect("sent");
        near.send(vec![0u8; 100_000]).expect("sent");
        assert_eq!(child.join().expect("ends"), 0);
    });
}

#[test]
fn senders_that_are_killed_take_nothing_of_others_along() {
    alone(|| {
        let (receiver, sender) = Pipe::one_way().expect("a pipe");
        // Long enough for a memory file, every third time.
        let send = |(sender, who, count): (Sender, u32, u32)| {
            for number in 0..count {
                let length = if number % 3 == 0 { 70_000 } else { 10 };
                sender.send((who, number, vec![who as u8; length])).expect("sent");
            }
        };
        let start = |who, count| {
            let sender = sender.try_clone().expect("files");
            Process::of_fn((sender, who, count), send)
                .start()
                .expect("starts")
        };
        let stays = start(0, 300);
        let goes: Vec<_> = (1..4).map(|who| start(who, u32::MAX)).collect();
        drop(sender);
        let mut next = [0; 4];
        let mut victims = goes.iter();
        loop {
            match receiver.recv_timeout::<(u32, u32, Vec<u8>)>(PATIENCE) {
                Ok((who, number, bytes)) => {
                    assert_eq!(number, next[who as usize], "of sender {who}");
                    assert!(bytes.iter().all(|byte| *byte == who as u8));
                    next[who as usize] += 1;
                    if next.iter().sum::<u32>() % 50 == 0
                        && let Some(victim) = victims.next()
                    {
                        victim.kill().expect("signals");
                    }
                }
                Err(RecvError::Closed) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(next[0], 300);
        assert_eq!(stays.join().expect("ends"), 0);
        for victim in &goes {
            assert_eq!(victim.join().expect("ends"), -9);
        }
    });
}

#[test]
fn several_things_are_awaited_at_once() {
    alone(|| {
        let (near, far) = Pipe::duplex().expect("a pipe");
        let (receiver, sender) = Pipe::one_way().expect("a pipe");
        let child = Process::of_fn(far, |far: Connection| {
            far.recv::<u8>().expect("comes");
            far.send(2u8).expect("sent");
            far.recv::<u8>().expect("comes");
        });
        let child = child.start().expect("starts");
        let all = [&near as &dyn std::os::fd::AsFd, &receiver, &child.sentinel()];
        assert_eq!(wait(&all, Some(BRIEF)).expect("waits"), []);
        assert_eq!(wait(&[], None).expect("nothing to wait for"), []);
        near.send(1u8).expect("sent");
        assert_eq!(wait(&all, Some(PATIENCE)).expect("waits"), [0]);
        assert_eq!(near.recv::<u8>().expect("comes"), 2);
        drop(sender);
        assert_eq!(wait(&all, Some(PATIENCE)).expect("waits"), [1]);
        near.send(3u8).expect("sent");
        child.join().expect("ends");
        assert_eq!(wait(&all, Some(PATIENCE)).expect("waits"), [0, 1, 2]);
    });
}
