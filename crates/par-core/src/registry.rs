//! The link-time registry: every `#[task]` of the program, found by name.

use crate::error::RegistryError;
use crate::remote::{self, RunFn};
use crate::signature::Signature;
use crate::task::{Task, signature_of};
use std::collections::HashMap;
use std::sync::OnceLock;

/// What the registry holds of one task. Made by `#[task]`.
pub struct TaskEntry {
    name: &'static str,
    module: &'static str,
    idempotent: bool,
    signature: fn() -> &'static Signature,
    pub(crate) run: RunFn,
}

impl TaskEntry {
    /// The entry of task `T`, which was defined in `module`.
    pub const fn of<T: Task>(module: &'static str) -> Self {
        TaskEntry {
            name: T::NAME,
            module,
            idempotent: T::IDEMPOTENT,
            signature: signature_of::<T>,
            run: remote::run_items::<T>,
        }
    }

    /// The stable name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The module that defines the task.
    pub fn module(&self) -> &'static str {
        self.module
    }

    /// Whether running it again after a loss is harmless.
    pub fn idempotent(&self) -> bool {
        self.idempotent
    }

    /// Parameters and types.
    pub fn signature(&self) -> &'static Signature {
        (self.signature)()
    }
}

/// Where `#[task]` enters itself at link time.
#[cfg(not(miri))]
#[linkme::distributed_slice]
pub static TASKS: [TaskEntry];

// linkme needs link sections, which Miri does not have.
#[cfg(miri)]
static TASKS: [TaskEntry; 0] = [];

type Index = Result<HashMap<&'static str, &'static TaskEntry>, RegistryError>;

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| build(TASKS.iter()))
}

fn build<'a>(
    entries: impl Iterator<Item = &'a TaskEntry>,
) -> Result<HashMap<&'static str, &'a TaskEntry>, RegistryError> {
    let mut map: HashMap<&'static str, &TaskEntry> = HashMap::new();
    for entry in entries {
        if let Some(other) = map.insert(entry.name, entry) {
            let mut modules = [other.module, entry.module];
            modules.sort_unstable();
            return Err(RegistryError::Duplicate {
                name: entry.name.to_owned(),
                first: modules[0],
                second: modules[1],
            });
        }
    }
    Ok(map)
}

/// Checks that no two tasks share a name. Every pool does so when it starts.
///
/// # Errors
/// [`RegistryError::Duplicate`] names the task and both modules.
pub fn check() -> Result<(), RegistryError> {
    index().as_ref().map(|_| ()).map_err(Clone::clone)
}

/// The task of that name.
///
/// # Errors
/// [`RegistryError::Unknown`] lists what is known; [`RegistryError::Duplicate`] as in [`check`].
pub fn find(name: &str) -> Result<&'static TaskEntry, RegistryError> {
    let index = index().as_ref().map_err(Clone::clone)?;
    index.get(name).copied().ok_or_else(|| RegistryError::Unknown {
        name: name.to_owned(),
        known: names(),
    })
}

/// The names of all tasks linked into this program, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = TASKS.iter().map(TaskEntry::name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    struct A;
    impl Task for A {
        const NAME: &'static str = "same";
        const PARAMS: &'static [&'static str] = &[];
        const IDEMPOTENT: bool = false;
        const ASYNC: bool = false;
        type Input = ();
        type Output = ();
        fn call((): ()) -> Result<(), crate::TaskError> {
            Ok(())
        }
    }

    #[test]
    fn two_tasks_of_one_name_are_an_error_that_names_both_modules() {
        let entries = [TaskEntry::of::<A>("one"), TaskEntry::of::<A>("two")];
        let error = build(entries.iter()).err().expect("duplicate");
        assert_eq!(
            error.to_string(),
            "two tasks are named \"same\": one in one, one in two; give one of them another with #[task(name = \"...\")]"
        );
    }

    #[test]
    fn an_unknown_name_says_what_is_known_and_how_to_link_a_crate() {
        let error = find("no such task").err().expect("unknown").to_string();
        assert!(error.contains("no task is named \"no such task\""), "{error}");
        assert!(error.contains("par_core::link!"), "{error}");
    }
}
