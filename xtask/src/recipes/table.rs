//! The table of recipes: where each is, and what must be observed.

use super::Recipe;
use super::checks::*;
use super::processes::*;
use super::tasks::*;
use super::threads::*;
use crate::native::{MPI_RANKS, OPENCL_DEVICES};

pub(crate) const RECIPES: &[Recipe] = &[
    Recipe::plain(
        "r1_metrics",
        "par-core",
        "Amdahl P=0.9 gives 5.263 at p=10 and 10 at p=inf; Gustafson p=10 alpha=0.1 gives 9.1; bad input is refused",
        r1_metrics,
    ),
    Recipe::plain(
        "r1_mapping",
        "par-sync",
        "a table with the columns mapping, answer, messages, idle and the rows block, cyclic, dynamic, hierarchical, stealing; one answer for all",
        r1_mapping,
    ),
    Recipe::plain(
        "r2_define",
        "par-sync",
        "five lines that end in 0 to 4, each once, in any order",
        r2_define,
    ),
    Recipe::plain(
        "r1_thread",
        "par-sync",
        "main's line, then ten of the thread",
        r1_thread,
    ),
    Recipe::plain(
        "r2_current",
        "par-sync",
        "three `starting`, then three `exiting`; the names first, second and Thread-N",
        r2_current,
    ),
    Recipe::plain(
        "r2_subclass",
        "par-sync",
        "for two threads: starts, five ticks, exits, in this order",
        r2_subclass,
    ),
    Recipe::plain(
        "r2_lock",
        "par-sync",
        "0 with the lock, and not 0 without",
        r2_lock,
    ),
    Recipe::plain(
        "r2_rlock",
        "par-sync",
        "5 added and 5 removed, and 0 left",
        r2_rlock,
    ),
    Recipe::plain(
        "r2_semaphore",
        "par-sync",
        "five times the value that was produced; at most 1 inside; a release too many is refused",
        r2_semaphore,
    ),
    Recipe::plain(
        "r2_condition",
        "par-sync",
        "20 produced and 20 consumed, never more than 10 or less than 0 in the buffer, 0 left",
        r2_condition,
    ),
    Recipe::plain(
        "r2_event",
        "par-sync",
        "0 to 9 consumed, once each, in order",
        r2_event,
    ),
    Recipe::plain(
        "r2_with",
        "par-sync",
        "four locks for a scope and four by calls; all free after a panic",
        r2_with,
    ),
    Recipe::plain(
        "r2_queue",
        "par-sync",
        "12 items, each once, then that all are done; full, empty, shut down and a task_done too many as errors",
        r2_queue,
    ),
    Recipe::plain(
        "r2_evaluate",
        "par-sync",
        "a table of ratios for 1, 2, 4, 8 threads: nothing costs more with threads, the network less",
        r2_evaluate,
    ),
    Recipe::plain(
        "r5_csp",
        "par-sync",
        "0 to 4; the counter's trace ends in DoneWrite, Poison, QuitProcess; sums of the four kinds of channels; two choices",
        r5_csp,
    ),
    Recipe::plain(
        "r1_exec",
        "par-process",
        "the called program's line, and that of the program that replaces this one; the line after that never runs",
        r1_exec,
    ),
    Recipe::plain(
        "r3_spawn",
        "par-process",
        "`called function in process: i` for 0 to 4, each once, in any order",
        r3_spawn,
    ),
    Recipe::plain(
        "r3_name",
        "par-process",
        "the children print the given name and the default name Process-2",
        r3_name,
    ),
    Recipe::plain(
        "r3_daemon",
        "par-process",
        "the daemon's last line is never printed and it may have no children; the other process is waited for",
        r3_daemon,
    ),
    Recipe::plain(
        "r3_kill",
        "par-process",
        "alive: false before, true while running, false after; exit code -15",
        r3_kill,
    ),
    Recipe::plain(
        "r3_subclass",
        "par-process",
        "MyProcess-1 to MyProcess-5 run with 0 to 4",
        r3_subclass,
    ),
    Recipe::plain(
        "r3_pool",
        "par-process",
        "a line `map: 0 1 4 .. 9801`, in order; every other line of 100 numbers is the same",
        r3_pool,
    ),
    Recipe::plain(
        "r3_pipe",
        "par-process",
        "the squares of 0 to 9, one a line, then the end of the pipe",
        r3_pipe,
    ),
    Recipe::plain(
        "r3_queue",
        "par-process",
        "two consumers get 0 to 9, each once; the queue is empty in the end, and all tasks are done",
        r3_queue,
    ),
    Recipe::plain(
        "r3_sync",
        "par-process",
        "p1 and p2 pass the barrier together, p3 and p4 do not wait for it; then the event, the condition and the semaphore have done theirs",
        r3_sync,
    ),
    Recipe::plain(
        "r3_manager",
        "par-process",
        "ten processes fill one dictionary: 0 to 9 with their doubles",
        r3_manager,
    ),
    Recipe {
        native: Some(&MPI_RANKS),
        ranks: Some(5),
        ..Recipe::plain(
            "r3_mpi_hello",
            "par-mpi",
            "`hello from rank r of 5` for 0 to 4, each once, in any order",
            r3_mpi_hello,
        )
    },
    Recipe::plain(
        "r4_futures",
        "par-async",
        "the same ten results serially, on threads and on processes, each with its seconds",
        r4_futures,
    ),
    Recipe::plain(
        "r5_scoop_mapreduce",
        "par-dist",
        "332833500 from the serial program and from the workers",
        r5_scoop_mapreduce,
    ),
    Recipe::plain(
        "r5_celery_worker",
        "par-dist",
        "the banner names app, broker, results, concurrency, queues and tasks",
        r5_celery_worker,
    ),
    Recipe::plain("r5_celery_add", "par-dist", "10, twice", r5_celery_add),
    Recipe::plain(
        "r6_reduction",
        "par-gpu",
        "21253400 on every device",
        r6_reduction,
    ),
    Recipe {
        native: Some(&OPENCL_DEVICES),
        ..Recipe::plain(
            "r6_cl_info",
            "par-gpu",
            "a platform, and each device with its type, clock, compute units, memories, largest allocation and work group",
            r6_cl_info,
        )
    },
];
