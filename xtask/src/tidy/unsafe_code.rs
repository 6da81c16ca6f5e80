//! Where `unsafe` may be, and that each use says why it is sound.

use super::lexer::code_only;
use super::sources::{has_word, sources};
use super::{Tree, Violation};
use std::collections::BTreeMap;

/// The only files that may hold `unsafe` code, and why each must.
const UNSAFE: &[(&str, &str)] = &[
    (
        "crates/par-core/src/body.rs",
        "says what whoever takes an outcome promises",
    ),
    (
        "crates/par-core/src/body/fold.rs",
        "takes claimed inputs out of their slots",
    ),
    (
        "crates/par-core/src/body/map.rs",
        "takes claimed inputs out of their slots and writes outputs into theirs",
    ),
    (
        "crates/par-core/src/body/single.rs",
        "takes the claimed input, polls its future where it lies and leaves the outcome there",
    ),
    (
        "crates/par-core/src/body/stream.rs",
        "takes claimed inputs out of their slots",
    ),
    (
        "crates/par-core/src/context.rs",
        "lends a thread's frame the job that is polled, uncounted",
    ),
    (
        "crates/par-core/src/engine.rs",
        "engines that may run borrowing closures promise to join them",
    ),
    (
        "crates/par-core/src/entry.rs",
        "turns a checked distance from an anchor into a function",
    ),
    ("crates/par-core/src/handle.rs", "is the one taker of an outcome"),
    (
        "crates/par-core/src/kernel.rs",
        "turns a checked address into a plain function",
    ),
    (
        "crates/par-core/src/pool/borrowed.rs",
        "runs closures that borrow, and joins them before the borrow ends",
    ),
    (
        "crates/par-core/src/run_async.rs",
        "keeps the job whose poll it lends to the thread's frame",
    ),
    (
        "crates/par-core/src/slots.rs",
        "slots that disjoint claims fill and empty without a lock",
    ),
    (
        "crates/par-core/tests/laws/faulty/borrowing.rs",
        "the engine of the laws promises that borrowed work has ended when its job is done",
    ),
    (
        "crates/par-gpu/src/cpu/crew.rs",
        "lends a call's chunks to helpers, which have left before the call ends",
    ),
    (
        "crates/par-gpu/src/kernel.rs",
        "whoever implements a kernel promises that its C touches nothing but its parameters",
    ),
    (
        "crates/par-gpu/src/lanes.rs",
        "calls the loops that are compiled for vectors which the processor was asked for",
    ),
    (
        "crates/par-gpu/src/lanes/transpose.rs",
        "turns squares of elements in vector registers",
    ),
    (
        "crates/par-gpu/src/memory.rs",
        "aligned buffers whose disjoint parts several threads write",
    ),
    (
        "crates/par-gpu/src/opencl/driver.rs",
        "calls OpenCL's functions on handles that it owns",
    ),
    (
        "crates/par-gpu/src/opencl/sys.rs",
        "loads OpenCL's library and its functions",
    ),
    (
        "crates/par-macros/src/kernel.rs",
        "writes the implementations of kernels, whose promise it keeps",
    ),
    (
        "crates/par-mpi/src/world/native.rs",
        "calls the MPI library, and has the program's exit noticed",
    ),
    (
        "crates/par-process/benches/shared.rs",
        "calls a robust lock of the C library to be measured beside it",
    ),
    (
        "crates/par-process/src/arena.rs",
        "maps the memory through which large values go between a pool and a worker",
    ),
    (
        "crates/par-process/src/before_main.rs",
        "an entry in the list of initialisers, and the environment before there are threads",
    ),
    (
        "crates/par-process/src/channel/queue/lock.rs",
        "robust mutexes in shared memory",
    ),
    (
        "crates/par-process/src/channel/queue/region.rs",
        "maps the memory of a queue, and copies items in and out",
    ),
    (
        "crates/par-process/src/interrupt.rs",
        "installs a signal handler, which only writes to an event",
    ),
    (
        "crates/par-process/src/page.rs",
        "maps the page of memory that a pool and a worker share",
    ),
    (
        "crates/par-process/src/shared/cells.rs",
        "copies into and out of memory that other processes may write at the same time",
    ),
    (
        "crates/par-process/src/shared/content.rs",
        "says which types consist of their elements",
    ),
    (
        "crates/par-process/src/shared/frozen.rs",
        "gives sealed shared memory as a slice",
    ),
    ("crates/par-process/src/shared/mapping.rs", "maps shared memory"),
    (
        "crates/par-process/src/shared/raw.rs",
        "gives shared memory as atomics, and to those who promise to be alone as a slice",
    ),
    (
        "crates/par-process/src/sync/locked.rs",
        "takes locks in shared memory, and reaches what lies behind them",
    ),
    (
        "crates/par-process/src/sync/memory.rs",
        "gives the tables of locks in shared memory as references",
    ),
    (
        "crates/par-process/src/sync/mutex.rs",
        "gives what a lock in shared memory guards to its owner",
    ),
    (
        "crates/par-process/src/sync/reentrant.rs",
        "gives what a lock in shared memory guards to its owner, as cells",
    ),
    (
        "crates/par-process/src/sync/robust.rs",
        "calls the C library's robust locks",
    ),
    (
        "crates/par-process/tests/interrupt/program.rs",
        "gives a signal its default action back",
    ),
    (
        "crates/par-process/tests/faults.rs",
        "a task writes into the sockets of its worker, to which it has no right",
    ),
    (
        "crates/par-process/tests/second_reading.rs",
        "tasks that write into the sockets of their worker, or fork it",
    ),
    (
        "crates/par-sync/src/pool.rs",
        "promises that borrowed work has ended when its job is done",
    ),
    (
        "crates/par-sync/src/pool/join.rs",
        "refers to halves of joins in frames that it does not leave",
    ),
    (
        "crates/par-sync/src/pool/latch.rs",
        "is opened by a thread that it may not outlive",
    ),
    (
        "crates/par-sync/src/pool/stack_job.rs",
        "runs halves of joins in the frames of their joiners",
    ),
    (
        "crates/par-sync/src/pool/worker.rs",
        "finds the worker in the frame of its thread",
    ),
    (
        "crates/par-sync/src/queue/ring.rs",
        "items go through slots that one thread at a time touches",
    ),
];

/// A crate without `unsafe` forbids it; elsewhere it lives in the listed files, and each use says why it is sound.
pub(super) fn unsafe_code(tree: &Tree) -> Vec<Violation> {
    unsafe_outside(UNSAFE, tree)
}

fn unsafe_outside(list: &[(&str, &str)], tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut crates: BTreeMap<&str, bool> = BTreeMap::new();
    for (path, text) in sources(tree) {
        let code = code_only(text);
        let uses: Vec<usize> = code
            .lines()
            .enumerate()
            .filter(|(_, line)| has_word(line, "unsafe"))
            .map(|(i, _)| i)
            .collect();
        // Tests, examples and benches are crates of their own: the attribute in lib.rs does not reach them.
        let package = path.split_once("/src/").map(|(package, _)| package);
        if let Some(package) = package {
            *crates.entry(package).or_default() |= !uses.is_empty();
        }
        let listed = list.iter().any(|(file, _)| *file == path);
        match uses.first() {
            Some(first) if !listed => {
                violations.push(Violation::new(
                    path,
                    first + 1,
                    "`unsafe` outside the files listed in tidy",
                ));
            }
            None if listed => violations.push(Violation::new(path, 0, "listed in tidy, and has no `unsafe`")),
            _ => {}
        }
        for line in uses.into_iter().filter(|&line| !explained(text, &code, line)) {
            violations.push(Violation::new(
                path,
                line + 1,
                "`unsafe` without a `// SAFETY:` comment above it",
            ));
        }
    }
    for (package, unsafe_inside) in crates {
        let roots = [format!("{package}/src/lib.rs"), format!("{package}/src/main.rs")];
        let root = tree.files.iter().find(|(path, _)| roots.contains(path));
        let forbids = root.is_some_and(|(_, text)| code_only(text).contains("#![forbid(unsafe_code)]"));
        if !unsafe_inside && !forbids {
            let path = root.map_or(&*roots[0], |(path, _)| path);
            violations.push(Violation::new(
                path,
                0,
                "no `unsafe` here: say `#![forbid(unsafe_code)]`",
            ));
        }
    }
    for (file, _) in list
        .iter()
        .filter(|(file, _)| !tree.files.iter().any(|(path, _)| path == file))
    {
        violations.push(Violation::new(file, 0, "listed in tidy, and not there"));
    }
    violations
}

/// Whether an `unsafe` on this line (from 0) needs no reason, or has one: on its line, or in the comments above the
/// statement that it is part of. The declaration of an unsafe function is explained by its documentation.
fn explained(text: &str, code: &str, line: usize) -> bool {
    let (text, code): (Vec<&str>, Vec<&str>) = (text.lines().collect(), code.lines().collect());
    let declares = ["unsafe fn", "unsafe extern", "unsafe trait", "unsafe(", "(unsafe"];
    if declares
        .iter()
        .any(|declaration| code[line].contains(declaration))
        || reason(text[line])
    {
        return true;
    }
    for above in (0..line).rev() {
        let end = code[above].trim_end();
        let comment = end.is_empty() && !text[above].trim().is_empty();
        if comment && reason(text[above]) {
            return true;
        }
        let attribute = end.trim_start().starts_with("#[");
        if !comment && !attribute && (end.is_empty() || end.ends_with([';', '{', '}', ','])) {
            return false;
        }
    }
    false
}

fn reason(line: &str) -> bool {
    line.split_once("//")
        .is_some_and(|(_, comment)| comment.contains("SAFETY:"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    const LIB: &str = "crates/x/src/lib.rs";

    fn unlisted(tree: &Tree) -> Vec<Violation> {
        unsafe_outside(&[], tree)
    }

    fn listed(tree: &Tree) -> Vec<Violation> {
        unsafe_outside(&[(LIB, "a reason")], tree)
    }

    #[test]
    fn unsafe_must_be_listed() {
        let code = "//! X\n// SAFETY: fine.\nunsafe { f() }";
        assert_eq!(found(unlisted, &[(LIB, code)]), ["crates/x/src/lib.rs:3"]);
        assert_eq!(found(unlisted, &[("crates/x/tests/a.rs", code)]).len(), 1);
        assert_eq!(found(listed, &[(LIB, code)]).len(), 0);
        assert_eq!(
            found(listed, &[(LIB, &code.replace("SAFETY", "safe"))]),
            ["crates/x/src/lib.rs:3"]
        );
        // What is listed must be there, and must need it.
        assert_eq!(found(listed, &[]), ["crates/x/src/lib.rs:0"]);
        assert_eq!(
            found(listed, &[(LIB, "//! X\n#![forbid(unsafe_code)]")]),
            ["crates/x/src/lib.rs:0"]
        );
    }

    #[test]
    fn safe_crates_must_forbid_unsafe() {
        assert_eq!(found(unlisted, &[(LIB, "//! X\n")]), ["crates/x/src/lib.rs:0"]);
        assert_eq!(
            found(unlisted, &[(LIB, "//! #![forbid(unsafe_code)]\n")]).len(),
            1
        );
        assert_eq!(
            found(unlisted, &[(LIB, "//! X\n#![forbid(unsafe_code)]\n")]).len(),
            0
        );
        assert_eq!(
            found(
                unlisted,
                &[("xtask/src/main.rs", "//! X\n#![forbid(unsafe_code)]\n")]
            )
            .len(),
            0
        );
    }

    #[test]
    fn unsafe_must_be_explained() {
        let explains = |text: &str| {
            let code = code_only(text);
            let line = code.lines().position(|line| has_word(line, "unsafe")).unwrap();
            explained(text, &code, line)
        };
        assert!(explains("// SAFETY: so.\nunsafe { f() }"));
        assert!(explains(
            "// SAFETY: so,\n// and so.\n#[inline]\nunsafe impl Send for X {}"
        ));
        assert!(explains("// SAFETY: so.\nlet x =\n    unsafe { f() };"));
        assert!(explains("fn x() {\n    unsafe { f() } // SAFETY: so.\n}"));
        assert!(explains("pub unsafe fn f() {}"));
        assert!(!explains("unsafe { f() }"));
        assert!(!explains("// SAFETY: of g.\nunsafeless();\nunsafe { f() }"));
        assert!(!explains("// SAFETY: far.\n\nunsafe impl Send for X {}"));
        assert!(!explains("let s = \"SAFETY:\";\nunsafe { f() }"));
    }
}
