//! The macros that stamp the laws as tests.

/// Stamps a test for each law and number of workers: `stamp!(module, [1, 3], |setup| setup.start::<Engine>())`. The closure
/// captures nothing, and may change what it likes: `setup.builder::<Engine>().options(...).build().map(Pool::into_any)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __stamp_laws {
    ($module:ident, [$($workers:tt),+], |$setup:ident| $start:expr) => {
        /// The laws, a module each.
        mod $module {
            #[allow(unused_imports, reason = "for what the closure names")]
            use super::*;

            pub(super) fn start(
                setup: &$crate::conformance::Setup,
            ) -> ::core::result::Result<$crate::AnyPool, $crate::StartError> {
                let start: $crate::conformance::Start<$crate::AnyPool> = |$setup| $start;
                start(setup)
            }

            $crate::__stamp_laws!(@laws [$($workers)+]
                law_00_workers 0,
                law_01_identity 1,
                law_02_outcome 2,
                law_03_delivery 3,
                law_04_worker_death 4,
                law_05_cancel 5,
                law_06_order 6,
                law_07_bits 7,
                law_08_back_pressure 8,
                law_09_nesting 9,
                law_10_shutdown 10,
                law_11_scopes 11,
                law_12_time 12,
            );
        }
    };
    (@laws $workers:tt $($law:ident $number:literal,)+) => {
        $($crate::__stamp_laws!(@law $law $number $workers);)+
    };
    (@law $law:ident $number:literal [$($workers:tt)+]) => {
        mod $law {
            $($crate::__stamp_laws!(@test $workers, |workers| $crate::conformance::check(
                $number,
                super::start,
                workers,
                $crate::conformance::Limits::default(),
            ));)+
        }
    };
    (@test 1, |$n:ident| $check:expr) => { $crate::__stamp_laws!(@named at_1_worker 1, |$n| $check); };
    (@test 2, |$n:ident| $check:expr) => { $crate::__stamp_laws!(@named at_2_workers 2, |$n| $check); };
    (@test 3, |$n:ident| $check:expr) => { $crate::__stamp_laws!(@named at_3_workers 3, |$n| $check); };
    (@test 4, |$n:ident| $check:expr) => { $crate::__stamp_laws!(@named at_4_workers 4, |$n| $check); };
    (@test 8, |$n:ident| $check:expr) => { $crate::__stamp_laws!(@named at_8_workers 8, |$n| $check); };
    (@test $other:tt, $($rest:tt)*) => {
        ::core::compile_error!("laws are stamped at 1, 2, 3, 4 or 8 workers");
    };
    (@named $name:ident $workers:literal, |$n:ident| $check:expr) => {
        #[test]
        fn $name() {
            let $n = $workers;
            if let ::core::result::Result::Err(broken) = $check {
                ::core::panic!("\n{broken}");
            }
        }
    };
}

/// Stamps tests of what a borrowing engine promises: `stamp_borrowing!(module, [1, 3], |setup| setup.builder::<Engine>().build())`.
#[doc(hidden)]
#[macro_export]
macro_rules! __stamp_borrowing_laws {
    ($module:ident, [$($workers:tt),+], |$setup:ident| $start:expr) => {
        $crate::__stamp_borrowing_laws!(@with check_borrowing, $module, [$($workers),+], |$setup| $start);
    };
    (@with $check:ident, $module:ident, [$($workers:tt),+], |$setup:ident| $start:expr) => {
        /// The laws of a capability.
        mod $module {
            #[allow(unused_imports, reason = "for what the closure names")]
            use super::*;

            $($crate::__stamp_laws!(@test $workers, |workers| $crate::conformance::$check(
                |$setup| $start,
                workers,
                $crate::conformance::Limits::default(),
            ));)+
        }
    };
}

/// Stamps tests of what an elastic engine promises, as `stamp_borrowing!` does.
#[doc(hidden)]
#[macro_export]
macro_rules! __stamp_elastic_laws {
    ($module:ident, [$($workers:tt),+], |$setup:ident| $start:expr) => {
        $crate::__stamp_borrowing_laws!(@with check_elastic, $module, [$($workers),+], |$setup| $start);
    };
}

/// Stamps tests of what an engine of the same program promises, as `stamp_borrowing!` does.
#[doc(hidden)]
#[macro_export]
macro_rules! __stamp_same_program_laws {
    ($module:ident, [$($workers:tt),+], |$setup:ident| $start:expr) => {
        $crate::__stamp_borrowing_laws!(@with check_same_program, $module, [$($workers),+], |$setup| $start);
    };
}
