//! Law 1: a task is its name and its signature; what differs is refused, with both sides shown.

use super::bench::{Bench, Check, can, submit};
use super::tasks::{Shy, double, gives_shy, takes_shy};
use crate::error::TaskError;
use crate::kernel::Kernel;
use crate::pool::AnyPool;
use crate::remote::{Call, Code};
use crate::task::Task;

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("another signature is refused, with both", another_signature),
    ("an unknown name is refused, with what is known", unknown_name),
    ("what does not serialise is told", codec),
];

/// A call as another program might make it: of a task that is known here under another signature, or not known.
#[derive(Clone, Copy)]
struct Stranger<const KNOWN: bool>;

const THEIRS: &str = "(wide: [i8]) -> bool";
const TYPED: &str = "it ran typed";

impl<const KNOWN: bool> Kernel for Stranger<KNOWN> {
    type In = u64;
    type Out = u64;
    const NAME: &'static str = "stranger";
    const IDEMPOTENT: bool = false;

    fn call(&self, _: u64) -> Result<u64, TaskError> {
        Err(TaskError::Rejected(TYPED.to_owned()))
    }
    fn to_data(&self) -> Vec<u8> {
        Vec::new()
    }
    fn from_data(_: &[u8]) -> Result<Self, TaskError> {
        Ok(Stranger)
    }
    fn by_name() -> Option<Call> {
        let name = if KNOWN { double::NAME } else { "a task of nobody" };
        let code = Code::Task {
            name: name.to_owned(),
            signature: THEIRS.to_owned(),
        };
        Some(Call {
            code,
            all_outcomes: false,
            logs: false,
        })
    }
}

/// The text of the refusal; nothing where the engine has no need of names.
fn refusal<const KNOWN: bool>(bench: &Bench<AnyPool>, pool: &AnyPool) -> Option<String> {
    let outcome = match pool.submit_kernel(Stranger::<KNOWN>, 7) {
        Ok(handle) => bench.ended(handle),
        Err(error) => Err(error),
    };
    match outcome {
        Err(TaskError::Rejected(text)) if text == TYPED && !can(pool).processes => {
            bench.weaker(
                pool,
                "tasks run typed, in place: no name and no signature crosses to a worker",
            );
            None
        }
        Err(TaskError::Rejected(text)) => Some(text),
        other => panic!("it should be rejected, and ended as {other:?}"),
    }
}

fn another_signature(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if let Some(text) = refusal::<true>(bench, &pool) {
        for needed in [double::NAME, THEIRS, "(x: u64) -> u64"] {
            assert!(
                text.contains(needed),
                "the refusal does not show {needed:?}: {text}"
            );
        }
    }
    assert_eq!(bench.ended(submit::<double>(&pool, 4)), Ok(8), "the pool goes on");
}

fn unknown_name(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if let Some(text) = refusal::<false>(bench, &pool) {
        for needed in ["a task of nobody", "par_core::link!"] {
            assert!(
                text.contains(needed),
                "the refusal does not show {needed:?}: {text}"
            );
        }
    }
    assert_eq!(bench.ended(submit::<double>(&pool, 4)), Ok(8), "the pool goes on");
}

fn codec(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    assert_eq!(bench.ended(submit::<takes_shy>(&pool, Shy(12))), Ok(12));
    let outcomes = [
        bench.ended(submit::<takes_shy>(&pool, Shy(13))),
        bench.ended(submit::<gives_shy>(&pool, 13)).map(|shy| shy.0),
        pool.map::<takes_shy>((10..20).map(Shy))
            .map(|all| all[3])
            .map_err(|e| e.error),
        pool.map::<gives_shy>(10..20)
            .map(|all| all[3].0)
            .map_err(|e| e.error),
    ];
    if outcomes.iter().all(|outcome| *outcome == Ok(13)) && !can(&pool).processes {
        bench.weaker(&pool, "values are moved, never encoded");
        return;
    }
    for outcome in outcomes {
        match outcome {
            Err(TaskError::Codec(text)) => assert!(text.contains("cannot encode"), "{text}"),
            other => panic!("a value that does not serialise should end as Codec, and ended as {other:?}"),
        }
    }
    assert_eq!(bench.ended(submit::<double>(&pool, 4)), Ok(8), "the pool goes on");
}
