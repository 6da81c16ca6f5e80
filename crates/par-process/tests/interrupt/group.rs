//! An interrupt to the whole process group of a program.

use crate::common::{PATIENCE, alone, lives, until};
use crate::program::Program;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

impl Program {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Presses Ctrl-C.
    fn interrupt(&self) {
        kill_process_group(self.pid(), Signal::INT).expect("it lives");
    }
}

#[test]
fn the_first_lets_everything_be_run_that_was_submitted() {
    alone(|| {
        let mut program = Program::in_a_group("test-drains");
        program.began(1);
        program.interrupt();
        program.hear("interrupted");
        program.hear("refused");
        program.open();
        program.hear("task 1: value 1");
        program.hear("task 2: value 2");
        program.hear("interrupts 1");
        program.began(2);
        let (status, more) = program.ended();
        assert_eq!((status.code(), more), (Some(0), Vec::new()));
    });
}

#[test]
fn the_first_cancels_what_has_not_begun_where_that_is_wanted() {
    alone(|| {
        let mut program = Program::in_a_group("test-cancels");
        program.began(1);
        program.interrupt();
        program.hear("interrupted");
        program.hear("refused");
        program.hear("task 2: cancelled");
        program.open();
        program.hear("task 1: value 1");
        program.hear("interrupts 1");
        let (status, more) = program.ended();
        assert_eq!((status.code(), more), (Some(0), Vec::new()));
    });
}

#[test]
fn the_second_kills_what_runs() {
    alone(|| {
        let mut program = Program::in_a_group("test-drains");
        let worker = program.began(1);
        program.interrupt();
        // Two at once would be one.
        program.hear("refused");
        assert!(lives(worker), "the worker does not hear the first");
        program.interrupt();
        program.hear("interrupted");
        program.hear("task 1: cancelled");
        program.hear("task 2: cancelled");
        program.hear("interrupts 2");
        let (status, more) = program.ended();
        assert_eq!((status.code(), more), (Some(0), Vec::new()));
        assert!(!lives(worker), "it is gone");
    });
}

#[test]
fn the_third_ends_the_program() {
    alone(|| {
        let mut program = Program::in_a_group("test-stuck");
        program.hear("ready");
        let end = Instant::now() + PATIENCE;
        // As often as somebody presses it; those that come at the same time count once.
        while program.child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < end, "it never ends");
            let _ = kill_process(program.pid(), Signal::INT);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(program.ended().0.signal(), Some(2));
    });
}

#[test]
fn one_that_was_let_go_leaves_things_as_they_were() {
    alone(|| {
        let mut program = Program::in_a_group("test-restored");
        program.hear("ready");
        program.interrupt();
        assert_eq!(program.ended().0.signal(), Some(2));
    });
}

#[test]
fn a_program_that_knows_nothing_of_it_ends_with_its_workers() {
    alone(|| {
        let mut program = Program::in_a_group("test-plain");
        let worker = program.began(1);
        program.interrupt();
        assert_eq!(program.ended().0.signal(), Some(2));
        until("its worker is gone", || !lives(worker));
    });
}
