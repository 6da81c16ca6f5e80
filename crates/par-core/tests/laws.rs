//! The laws on the reference engine, which keeps some of them in their weaker form.

par_core::conformance::stamp!(serial, [1], |setup| setup.start::<par_core::Serial>());
par_core::conformance::stamp_same_program!(serial_same_program, [1], |setup| setup
    .builder::<par_core::Serial>()
    .build());
