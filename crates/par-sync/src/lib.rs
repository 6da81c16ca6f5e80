//! par-sync: threads, and the thread engine.
#![deny(unsafe_code)]

mod engine;
mod sync_seam;

pub use engine::{ThreadEngine, ThreadOptions, ThreadPool};
pub use par_core;
pub use par_core::{
    All, Any, AnyPool, Append, AsCompleted, BitAnd, BitOr, BitXor, BorrowScope, Builder, Capabilities,
    ChunkPlan, Concat, Event, Handle, Info, MapError, Mapping, Max, MaxLoc, Min, MinLoc, Observer, Plan,
    Pool, Product, Reduction, ScanKind, Scope, Shared, Shutdown, ShutdownReport, SliceError, StartError,
    Stream, Sum, SumByKey, Task, TaskError, TaskState, TopK, TrySubmitError, as_completed, cancelled,
    check_cancelled, current, metrics, reduction, task, wait_all, wait_any, with_local, worker_index,
};
