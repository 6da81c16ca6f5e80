//! Ctrl-C from a real terminal, to the program that has its foreground.

use crate::common::{alone, lives, until};
use crate::program::{Program, interrupted, plain};
use par_process::{Shutdown, role};
use rustix::process::{Pid, getpgid, ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;

/// Makes the terminal that is standard input the one of this process, which is in its foreground then, as a shell's child is.
fn take_terminal() {
    setsid().expect("nobody's leader");
    ioctl_tiocsctty(std::io::stdin()).expect("a terminal without a session");
}

role!("test-terminal-drains", drains);
fn drains() -> i32 {
    take_terminal();
    interrupted(Shutdown::Drain)
}

role!("test-terminal-plain", in_front);
fn in_front() -> i32 {
    take_terminal();
    plain()
}

/// The side of a terminal at which somebody sits.
struct Keyboard(File);

impl Keyboard {
    /// Starts a program on a terminal.
    fn start(role: &str) -> (Self, Program) {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("a terminal");
        unlockpt(&master).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("a terminal");
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(name.to_str().expect("a path of the system"))
            .expect("a terminal");
        let master = File::from(master);
        let screen = master.try_clone().expect("files");
        let mut command = role::command(role).expect("registered");
        command.stdin(slave.try_clone().expect("files")).stdout(slave);
        let program = Program::start(command, |_| Box::new(screen));
        (Keyboard(master), program)
    }

    /// Presses Ctrl-C.
    fn press(&mut self) {
        self.0.write_all(b"\x03").expect("a terminal");
    }
}

/// The process group of a process.
fn group_of(pid: u32) -> u32 {
    let pid = Pid::from_raw(pid.try_into().expect("a number of a process"));
    let group = getpgid(pid).expect("it lives");
    u32::try_from(group.as_raw_nonzero().get()).expect("a number of a process")
}

#[test]
fn the_first_drains_and_workers_do_not_hear_it() {
    alone(|| {
        let (mut keyboard, mut program) = Keyboard::start("test-terminal-drains");
        let worker = program.began(1);
        // What is typed goes to the group in the foreground, which is the program's.
        assert_eq!(group_of(program.child.id()), program.child.id());
        assert_eq!(group_of(worker), worker);
        keyboard.press();
        program.hear("interrupted");
        program.hear("refused");
        assert!(lives(worker));
        program.open();
        program.hear("task 1: value 1");
        program.hear("task 2: value 2");
        program.hear("interrupts 1");
        assert_eq!(program.began(2), worker, "the same worker ran what was left");
        let (status, more) = program.ended();
        assert_eq!((status.code(), more), (Some(0), Vec::new()));
        assert!(!lives(worker));
    });
}

#[test]
fn the_second_kills() {
    alone(|| {
        let (mut keyboard, mut program) = Keyboard::start("test-terminal-drains");
        let worker = program.began(1);
        keyboard.press();
        program.hear("refused");
        assert!(lives(worker));
        keyboard.press();
        program.hear("interrupted");
        program.hear("task 1: cancelled");
        program.hear("task 2: cancelled");
        program.hear("interrupts 2");
        let (status, more) = program.ended();
        assert_eq!((status.code(), more), (Some(0), Vec::new()));
        assert!(!lives(worker));
    });
}

#[test]
fn without_a_handler_the_program_ends_and_its_workers_with_it() {
    alone(|| {
        let (mut keyboard, mut program) = Keyboard::start("test-terminal-plain");
        let worker = program.began(1);
        keyboard.press();
        assert_eq!(program.ended().0.signal(), Some(2));
        until("its worker is gone", || !lives(worker));
    });
}
