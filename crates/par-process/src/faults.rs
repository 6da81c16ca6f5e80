//! What can go wrong, what comes of it, and the test that shows it. There is no code here.
//!
//! After each, no process, socket, memory or file of this crate is left; the tests of whole programs assert that.
//!
//! # Workers of a pool
//!
//! | what goes wrong | what comes of it | test |
//! |---|---|---|
//! | a worker is killed, aborts, exits, overflows its stack or runs out of memory before it begins a task that it was sent | another worker runs the task | `pool::points::a_death_at_each_point_loses_no_more_than_it_must` |
//! | the same, while the task runs | the task is `Lost`, with the reason in words, or runs again if it is idempotent; another worker takes the place | as above, `faults::each_way_to_end_has_its_text` |
//! | the same, when the task has ended and while its outcome is sent | the task has its outcome | `pool::points::a_death_at_each_point_loses_no_more_than_it_must` |
//! | a worker is stopped, at any of these points | a task with a deadline is `TimedOut`, and the worker is replaced; without a deadline the task waits until the worker goes on or dies | `pool::points::a_worker_that_is_stopped_at_any_point_is_replaced_at_the_deadline` |
//! | workers are killed in the middle of a map of an idempotent task | the map is whole | `faults::a_map_survives_workers_that_are_killed_in_its_middle` |
//! | of 10 000 tasks one in 50 kills its worker | those 200 are `Lost`, all others have their values | `faults::ten_thousand_tasks_of_which_one_in_fifty_kills_its_worker` |
//! | workers that are killed while large values cross in shared memory | only what they had begun is `Lost` | `large::deaths_lose_only_what_had_begun` |
//! | more deaths than [restarts](crate::Builder::restarts) | every wait says `Broken`, and why | `faults::past_its_budget_a_pool_says_why_it_is_broken` |
//! | a task takes more memory than [twice the limit](crate::Options::memory) | its worker is killed, the task is `Lost` | `turnover::a_task_that_takes_too_much_memory_is_killed_and_nothing_else_suffers` |
//! | an allocation is beyond [`address_space`](crate::Options::address_space) | it fails on the spot, as out of memory | `turnover::an_allocation_beyond_the_address_space_fails_on_the_spot` |
//! | a task leaves a process behind that holds the worker's socket | the worker's death is seen all the same | `second_reading::a_death_is_seen_while_others_hold_the_socket` |
//! | the initialiser fails | the pool does not start, or does not grow, and says so | `faults::what_a_pool_cannot_start_with_is_named`, `turnover::a_size_that_cannot_be_is_refused_and_the_pool_goes_on` |
//!
//! # The program that has them
//!
//! All workers, processes, managers, names and memory of a program end with it, whether they go on or are stopped themselves.
//!
//! | what goes wrong | test |
//! |---|---|
//! | it is killed | `parents::one_that_is_killed_leaves_nothing`, `process::children_end_with_a_killed_parent_also_stopped_ones` |
//! | it is stopped, and killed then | `parents::one_that_is_stopped_and_killed_leaves_nothing` |
//! | it aborts | `parents::one_that_aborts_leaves_nothing` |
//! | it exits with a code | `parents::one_that_exits_leaves_nothing` |
//! | its stack overflows | `parents::one_whose_stack_overflows_leaves_nothing` |
//! | it runs out of memory | `parents::one_that_runs_out_of_memory_leaves_nothing` |
//! | Ctrl-C at its terminal | `terminal::without_a_handler_the_program_ends_and_its_workers_with_it` |
//! | Ctrl-C, with [`on_interrupt`](crate::on_interrupt): the first drains, and workers do not hear it; the second kills | `terminal::the_first_drains_and_workers_do_not_hear_it`, `terminal::the_second_kills` |
//!
//! # Managers
//!
//! | what goes wrong | what comes of it | test |
//! |---|---|---|
//! | a manager is killed, aborts, exits, overflows a stack or runs out of memory before a call or between what it did and the answer | that call, all that wait and all later ones are `Gone`, at once | `manager::tests::a_manager_that_dies_in_a_call_ends_it_and_all_others`, `manager::after_the_managers_death_every_call_ends_at_once` |
//! | a manager is stopped | calls wait, those [with a deadline](crate::manager::within) until then; what had been asked for may still happen | `manager::a_stopped_manager_is_waited_for_until_the_deadline`, `manager::tests::a_put_that_gave_up_while_the_manager_was_stopped_happens_once_or_not_at_all` |
//! | a client dies, stopped or not | its locks are free, its references are gone, an item on its way to it comes back | `manager::a_killed_client_leaves_neither_references_nor_locks`, `manager::tests::a_client_that_dies_in_a_get_leaves_the_item_until_it_has_it`, `manager::tests::a_stopped_client_keeps_what_it_holds_until_it_dies` |
//! | the program that started it dies | it ends, stopped or not | `manager::a_manager_ends_with_the_process_that_started_it` |
//! | a client has a wrong key | `WrongKey`; nothing is read of it but the proof | `manager::keys_names_and_kinds_are_checked`, `manager::key::tests::who_has_the_key_is_let_in_and_nobody_else` |
//! | many who prove nothing | 64 are let wait, those who are in go on | `manager::tests::who_proves_nothing_is_let_wait_and_keeps_out_nobody_who_is_in` |
//! | a frame claims 2^60 bytes, or makes no sense | its connection ends, or its call fails with the reason; nothing else | `manager::tests::hostile_frames_end_their_connection_and_nothing_else`, `manager::tests::hostile_calls_never_panic` |
//! | a method panics | the call says `Panicked`, with the text; the object and the manager go on | `manager::a_users_type_is_owned_and_panics_are_told` |
//!
//! # Pipes, queues, locks and memory
//!
//! | what goes wrong | what comes of it | test |
//! |---|---|---|
//! | a full pipe, whose reader is stopped | a send waits, with a deadline until then, and gives the value back | `pipe::a_full_pipe_waits_for_its_reader_and_hands_back_what_a_dead_one_left` |
//! | a full pipe, whose reader dies | the send that waits ends as `Closed`, with the value | as above |
//! | writers are killed at any time | what was sent before is whole, then the end of file | `pipe::senders_that_are_killed_take_nothing_of_others_along`, `pipe::the_end_of_file_comes_with_the_last_writer` |
//! | a message claims 2^60 bytes, or makes no sense | an error that says so; nothing is allocated for it | `channel::packet::tests::lengths_that_lie_are_errors`, `channel::packet::tests::hostile_datagrams_never_panic` |
//! | a process dies at any point of a put or a get | its own item is there or not; nobody else's is lost or doubled, and nobody is blocked | `channel::queue::tests::a_death_in_a_put_leaves_the_item_whole_or_not_at_all`, `channel::queue::tests::a_death_in_a_get_takes_its_own_item_along_or_leaves_it`, `channel::queue::tests::a_death_between_waking_and_getting_leaves_no_sleeper_behind` |
//! | a process is stopped in a put or a get | deadlines of others hold | `channel::queue::tests::deadlines_hold_while_a_process_is_stopped_within` |
//! | the owner of a lock dies or panics | the next one is told, with the guard in the error, and mends the value | `locks::the_next_hears_of_a_killed_owner_and_mends`, `locks::a_panic_is_told_as_a_death_is` |
//! | the owner of a lock is stopped | deadlines of others hold | `locks::nobody_waits_for_a_stopped_owner_beyond_the_deadline` |
//! | a process dies at any point inside a semaphore, condition variable or barrier | permits come back, notifications go on, the barrier breaks | `sync::deaths::a_semaphore_is_whole_wherever_a_process_dies`, `sync::deaths::a_condvar_goes_on_wherever_a_waiter_dies`, `sync::deaths::a_barrier_breaks_wherever_a_process_dies` |
//! | everyone who has some shared memory is killed | it is gone, and so are names | `memory::memory_goes_with_its_last_user_also_after_kills`, `memory::a_name_is_its_publishers` |
//! | shared memory of 2^60 bytes is wanted | an error that says so | `memory::too_much_is_an_error` |
//! | foreign bytes where a token, a segment or a queue should be | an error that says so | `memory::impostors_are_found_out`, `channel::queue::tests::a_spoilt_memory_is_an_error_and_no_crash` |
//!
//! # Starts and limits
//!
//! | what goes wrong | what comes of it | test |
//! |---|---|---|
//! | a worker says that a reply has 2^60 bytes, or nonsense | it is killed and replaced, its task is `Lost` with what it said | `faults::a_worker_that_lies_is_replaced`, `second_reading::a_reply_before_nonsense_leaves_nothing_held` |
//! | inputs or outputs are longer than [`longest`](crate::Options::longest) | the task fails with both lengths | `faults::what_is_longer_than_allowed_is_refused_and_nothing_else_suffers` |
//! | a worker or a child runs another program than its parent | it is refused, with both | `pool::engine::tests::a_worker_of_another_program_is_refused_with_both`, `process::child::tests::a_child_of_another_program_says_so_with_both` |
//! | the program's file was built again or removed while it runs | copies start from the image that runs | `starts::a_program_whose_file_is_another_starts_copies_of_itself` |
//! | a role that the program does not know | an error that names those it knows | `role::an_unknown_role_is_refused_here_and_there` |
//! | a worker that somebody starts by hand | it says what is missing, and ends with 1 | `faults::a_worker_started_by_hand_says_what_is_missing` |
//! | no files are left when something starts | it starts, or says what is missing and gives back what it had | `starts::near_the_limit_of_files_a_start_succeeds_or_says_what_is_missing` |
//! | no files are left when a worker is to be replaced | the pool tries again, with pauses | `second_reading::a_shortage_of_files_is_outlived` |
//! | no files are left for pipes, memory, or a manager's clients | an error that says so; with files again it goes on | `pipe::a_process_at_its_limit_of_files_is_told_so`, `memory::without_files_there_is_an_error_and_then_a_way`, `manager::tests::a_manager_at_its_limit_of_files_goes_on_when_there_is_room`, `manager::tests::a_process_at_its_limit_of_files_is_told_so` |
