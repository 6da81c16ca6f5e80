//! The laws of the trait layer, on the async engine: on its own runtime, and on runtimes of the user's.

use par_async::{AsyncEngine, AsyncOptions, AsyncPool, Pool, StartError, par_core};
use par_core::conformance::{Setup, stamp, stamp_same_program};
use std::sync::LazyLock;
use tokio::runtime::{Builder, Handle, Runtime};

fn on(setup: &Setup, runtime: &Handle) -> Result<AsyncPool, StartError> {
    let options = AsyncOptions::on(runtime.clone());
    setup.builder::<AsyncEngine>().options(options).build()
}

/// A runtime of two threads, which all pools of the test share.
static THREADS: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("starts")
});

/// A runtime without threads of its own, driven by one of the test's.
static DRIVEN: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("starts");
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

stamp!(own_runtime, [1, 3], |setup| setup.start::<AsyncEngine>());
stamp_same_program!(own_runtime_same_program, [1, 3], |setup| setup
    .builder::<AsyncEngine>()
    .build());

stamp!(users_threads, [1, 3], |setup| on(setup, THREADS.handle())
    .map(Pool::into_any));
stamp_same_program!(users_threads_same_program, [1, 3], |setup| on(
    setup,
    THREADS.handle()
));

stamp!(users_single_thread, [1, 3], |setup| on(setup, &DRIVEN)
    .map(Pool::into_any));
