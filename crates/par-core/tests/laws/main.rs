//! The laws on the reference engine and on a small thread engine, and engines that break them.

#![deny(unsafe_code)]

mod broken;
mod faulty;

use faulty::{Faulty, Mode};
use par_core::{Pool, Serial};

par_core::conformance::stamp!(serial, [1], |setup| setup.start::<Serial>());
par_core::conformance::stamp_same_program!(serial_same_program, [1], |setup| setup
    .builder::<Serial>()
    .build());

par_core::conformance::stamp!(threads, [1, 3], |setup| setup.start::<Faulty>());
par_core::conformance::stamp_borrowing!(threads_borrowing, [1, 3], |setup| setup
    .builder::<Faulty>()
    .build());
par_core::conformance::stamp_same_program!(threads_same_program, [1, 3], |setup| setup
    .builder::<Faulty>()
    .build());

par_core::conformance::stamp_elastic!(threads_elastic, [1, 3], |setup| setup.builder::<Faulty>().build());

par_core::conformance::stamp!(encoding, [1, 3], |setup| {
    setup
        .builder::<Faulty>()
        .options(Mode::Encoded.into())
        .build()
        .map(Pool::into_any)
});

/// Only the laws that a death makes a difference to: the workers of this engine merely play at being processes.
#[test]
fn simulated_processes_keep_the_laws_of_delivery_and_death() {
    for law in [0, 1, 3, 4] {
        for workers in [1, 3] {
            let start = |setup: &par_core::conformance::Setup| {
                setup
                    .builder::<Faulty>()
                    .options(Mode::Processes.into())
                    .build()
                    .map(Pool::into_any)
            };
            let held = par_core::conformance::check(law, start, workers, Default::default());
            assert_eq!(held, Ok(()), "at {workers} workers");
        }
    }
}
