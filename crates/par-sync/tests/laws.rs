//! The laws of the trait layer, on threads: typed, and in the encoding mode.

use par_core::conformance::{Setup, stamp, stamp_borrowing, stamp_elastic, stamp_same_program};
use par_sync::{Pool, StartError, ThreadEngine, ThreadOptions, ThreadPool, par_core};

fn encoding(setup: &Setup) -> Result<ThreadPool, StartError> {
    let options = ThreadOptions {
        encode: true,
        ..ThreadOptions::default()
    };
    setup.builder::<ThreadEngine>().options(options).build()
}

fn typed(setup: &Setup) -> Result<ThreadPool, StartError> {
    setup.builder::<ThreadEngine>().build()
}

stamp!(typed_laws, [1, 3], |setup| typed(setup).map(Pool::into_any));
stamp_borrowing!(typed_borrowing, [1, 3], |setup| typed(setup));
stamp_same_program!(typed_same_program, [1, 3], |setup| typed(setup));
stamp_elastic!(typed_elastic, [1, 3], |setup| typed(setup));

stamp!(encoded_laws, [1, 3], |setup| encoding(setup).map(Pool::into_any));
stamp_borrowing!(encoded_borrowing, [1, 3], |setup| encoding(setup));
stamp_same_program!(encoded_same_program, [1, 3], |setup| encoding(setup));
