//! Rules over Rust sources: first lines, lengths, unfinished code, broker crates, and where `unsafe` may be.

use super::lexer::code_only;
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

/// Lines of a file without its tests, at most.
const LONGEST: usize = 800;

/// Rust sources of the workspace, but for those that are written to fail to compile.
fn sources(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.ending(".rs").filter(|(path, _)| {
        (path.starts_with("crates/") || path.starts_with("xtask/")) && !path.contains("/tests/ui/")
    })
}

/// A file's first line is `//!` and says what lives there.
pub(super) fn first_lines(tree: &Tree) -> Vec<Violation> {
    sources(tree)
        .filter(|(_, text)| {
            let first = text.lines().next().unwrap_or_default();
            first
                .strip_prefix("//!")
                .is_none_or(|rest| rest.trim().is_empty())
        })
        .map(|(path, _)| Violation::new(path, 1, "the first line must be `//!` and say what lives here"))
        .collect()
}

/// No file is too long, its tests apart.
pub(super) fn lengths(tree: &Tree) -> Vec<Violation> {
    sources(tree)
        .filter(|(path, _)| !path.contains("/tests/") && !path.ends_with("/tests.rs"))
        .filter_map(|(path, text)| {
            let lines = without_tests(text);
            (lines > LONGEST)
                .then(|| Violation::new(path, 0, format!("{lines} lines without tests: at most {LONGEST}")))
        })
        .collect()
}

/// Number of lines outside test modules. A module ends at the first brace in the column where its attribute begins.
fn without_tests(text: &str) -> usize {
    let mut lines = text.lines();
    let mut count = 0;
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if line.trim() != "#[cfg(test)]" {
            count += 1;
            continue;
        }
        let item = lines.find(|next| !next.trim_start().starts_with("#["));
        if item.is_some_and(|item| item.trim_start().starts_with("mod ") && item.ends_with('{')) {
            let _ = lines.find(|next| next.trim_end() == format!("{}}}", " ".repeat(indent)));
        }
    }
    count
}

/// Nothing is left to be done, and no test is switched off.
pub(super) fn unfinished(tree: &Tree) -> Vec<Violation> {
    in_code(tree, |line| {
        let found = ["todo!(", "unimplemented!(", "#[ignore"]
            .into_iter()
            .find(|pattern| line.contains(pattern))?;
        Some(format!("`{found}` is not for a tree that others use"))
    })
}

/// In par-dist, only the broker modules name what speaks SQL or AMQP; and its tests, which look into brokers from outside, and examples, whose
/// databases are the user's.
pub(super) fn broker(tree: &Tree) -> Vec<Violation> {
    let mut violations = in_code(tree, |line| {
        let found = ["rusqlite", "lapin", "sqlx", "amq_protocol"]
            .into_iter()
            .find(|name| has_word(line, name))?;
        Some(format!("`{found}` belongs in the broker module of par-dist"))
    });
    violations.retain(|violation| {
        let inside = violation.path.strip_prefix("crates/par-dist/src/").unwrap_or("");
        let looks = ["tests/", "benches/", "examples/"].iter().any(|folder| {
            violation
                .path
                .strip_prefix("crates/par-dist/")
                .is_some_and(|path| path.starts_with(folder))
        });
        !(looks
            || inside == "broker.rs"
            || inside.starts_with("broker/")
            || inside.starts_with("app/broker/"))
    });
    violations
}

/// Backend crates, and the names of the modules whose public signatures may show their types.
const SHOWN_BY: &[(&str, &[&str])] = &[
    ("cudarc", &["cudarc", "cuda"]),
    ("cust", &["cust"]),
    ("lapin", &["lapin", "amqp"]),
    ("mpi", &["mpi"]),
    ("ocl", &["ocl", "opencl"]),
    ("rusqlite", &["rusqlite", "sqlite"]),
];

/// No public signature shows a backend's type, written with its path, outside a module named for the backend.
pub(super) fn signatures(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in sources(tree) {
        let module = path.split_once("/src/").map_or(path, |(_, module)| module);
        let code = code_only(text);
        for (index, line) in code
            .lines()
            .enumerate()
            .filter(|(_, line)| line.trim_start().starts_with("pub "))
        {
            let shown = SHOWN_BY.iter().find(|(backend, modules)| {
                names_path(line, backend) && !modules.iter().any(|name| has_word(module, name))
            });
            violations.extend(shown.map(|(backend, _)| {
                let message = format!("a public signature shows `{backend}` outside a module named for it");
                Violation::new(path, index + 1, message)
            }));
        }
    }
    violations
}

/// Whether a path such as `backend::Type` stands in a line.
fn names_path(line: &str, backend: &str) -> bool {
    let mut before = line.split("::").collect::<Vec<_>>();
    before.pop();
    before
        .iter()
        .any(|part| part.rsplit(|c: char| !is_word(c)).next() == Some(backend))
}

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

fn in_code(tree: &Tree, rule: impl Fn(&str) -> Option<String>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in sources(tree) {
        for (index, line) in code_only(text).lines().enumerate() {
            if let Some(message) = rule(line) {
                violations.push(Violation::new(path, index + 1, message));
            }
        }
    }
    violations
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !is_word(c)).any(|other| other == word)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    const LIB: &str = "crates/x/src/lib.rs";

    #[test]
    fn first_line_says_what() {
        assert_eq!(found(first_lines, &[(LIB, "//! What.\n")]).len(), 0);
        for bad in ["", "//!\n", "use std::fs;\n//! What.\n", "// What.\n"] {
            assert_eq!(
                found(first_lines, &[(LIB, bad)]),
                ["crates/x/src/lib.rs:1"],
                "{bad:?}"
            );
        }
        assert_eq!(
            found(first_lines, &[("crates/x/tests/ui/a.rs", "fn main() {}")]).len(),
            0
        );
    }

    #[test]
    fn long_files_are_found_and_tests_do_not_count() {
        let lines = |n: usize| "x();\n".repeat(n);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(500));
        assert_eq!(found(lengths, &[(LIB, &lines(801))]).len(), 1);
        assert_eq!(found(lengths, &[(LIB, &(lines(800) + &tests))]).len(), 0);
        assert_eq!(
            found(lengths, &[(LIB, &(lines(400) + &tests + &lines(401)))]).len(),
            1
        );
        assert_eq!(
            found(
                lengths,
                &[(LIB, &format!("#[cfg(test)]\nmod tests;\n{}", lines(801)))]
            )
            .len(),
            1
        );
        assert_eq!(
            found(lengths, &[("crates/x/tests/long.rs", &lines(900))]).len(),
            0
        );
    }

    #[test]
    fn unfinished_code_is_found_outside_text() {
        for bad in ["todo!()", "unimplemented!(\"x\")", "#[ignore = \"slow\"]"] {
            assert_eq!(
                found(unfinished, &[(LIB, &format!("//! X\n{bad}"))]),
                ["crates/x/src/lib.rs:2"]
            );
        }
        assert_eq!(
            found(unfinished, &[(LIB, "// todo!()\nlet x = \"todo!()\";")]).len(),
            0
        );
    }

    #[test]
    fn broker_crates_stay_in_the_broker() {
        let code = "//! X\nuse rusqlite::Connection;";
        assert_eq!(found(broker, &[("crates/par-dist/src/queue.rs", code)]).len(), 1);
        assert_eq!(found(broker, &[("crates/par-dist/src/broker.rs", code)]).len(), 0);
        assert_eq!(
            found(broker, &[("crates/par-dist/src/broker/sqlite.rs", code)]).len(),
            0
        );
        for place in ["src/app/broker/file.rs", "tests/faults.rs", "benches/app.rs"] {
            let path = format!("crates/par-dist/{place}");
            assert_eq!(found(broker, &[(&path, code)]).len(), 0, "{place}");
        }
        assert_eq!(found(broker, &[(LIB, "use lapin::Channel;")]).len(), 1);
        assert_eq!(found(broker, &[(LIB, "fn rusqlite_free() {}")]).len(), 0);
    }

    #[test]
    fn backends_stay_out_of_signatures() {
        let shows = "//! X\npub fn device(&self) -> ocl::Device {}";
        assert_eq!(
            found(signatures, &[("crates/par-gpu/src/array.rs", shows)]),
            ["crates/par-gpu/src/array.rs:2"]
        );
        assert_eq!(
            found(signatures, &[("crates/par-gpu/src/opencl.rs", shows)]).len(),
            0
        );
        assert_eq!(
            found(
                signatures,
                &[("crates/par-mpi/src/rank.rs", "pub use mpi::Rank;")]
            )
            .len(),
            1
        );
        let hides = "pub(crate) fn device() -> ocl::Device {}\nuse ocl::Device;\npub fn f(x: par_mpi::X) {}";
        assert_eq!(
            found(signatures, &[("crates/par-gpu/src/array.rs", hides)]).len(),
            0
        );
    }

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
