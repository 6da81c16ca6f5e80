//! The laws of the trait layer, on ranks that are threads.

use par_core::conformance::{stamp, stamp_same_program};
use par_mpi::{MpiEngine, par_core};

stamp!(laws, [1, 3], |setup| setup.start::<MpiEngine>());
stamp_same_program!(same_program, [1, 3], |setup| setup.builder::<MpiEngine>().build());
