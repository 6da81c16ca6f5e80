//! The laws of the trait layer, on processes.

use par_core::conformance::{stamp, stamp_elastic, stamp_same_program};
use par_process::{ProcessEngine, par_core};

stamp!(laws, [1, 3], |setup| setup.start::<ProcessEngine>());
stamp_same_program!(same_program, [1, 3], |setup| setup
    .builder::<ProcessEngine>()
    .build());
stamp_elastic!(elastic, [1, 3], |setup| setup.builder::<ProcessEngine>().build());
