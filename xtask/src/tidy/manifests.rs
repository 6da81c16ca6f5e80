//! Rules over manifests: who may depend on what, and what every manifest must say.

use super::{Tree, Violation};
use toml_edit::{DocumentMut, Item, TableLike};

/// What par-core must not know: runtimes, sockets, thread pools, C libraries and what builds them.
const NOT_IN_CORE: &[&str] = &[
    "async-executor",
    "async-std",
    "bindgen",
    "blocking",
    "cc",
    "cmake",
    "futures-executor",
    "libc",
    "libloading",
    "mio",
    "monoio",
    "nix",
    "pkg-config",
    "polling",
    "pollster",
    "rayon",
    "rayon-core",
    "rustix",
    "scoped_threadpool",
    "smol",
    "socket2",
    "threadpool",
    "tokio",
    "vcpkg",
    "windows-sys",
];

/// A backend and the only crate that may name it. A name also covers those that start with it and a hyphen.
const BACKENDS: &[(&str, &[&str])] = &[
    ("par-mpi", &["mpi", "mpi-sys", "rsmpi"]),
    (
        "par-gpu",
        &[
            "ocl",
            "opencl3",
            "opencl-sys",
            "cl-sys",
            "cust",
            "cudarc",
            "cuda",
            "rustacuda",
        ],
    ),
    (
        "par-dist",
        &[
            "rusqlite",
            "libsqlite3-sys",
            "sqlx",
            "lapin",
            "amq-protocol",
            "amqprs",
        ],
    ),
];

/// What a crate of the workspace may stand on. Those not listed (par-mpi and its like) stand on [`WING`].
const FLOORS: &[(&str, &[&str])] = &[
    ("par-macros", &[]),
    ("par-core", &["par-macros"]),
    ("par-dist", &["par-core", "par-macros", "par-process"]),
];
const WING: &[&str] = &["par-core", "par-macros"];

/// One entry of a dependency table.
struct Dependency {
    /// The crate's own name, also where the manifest renames it.
    name: String,
    /// Whether only tests, examples and benches use it.
    dev: bool,
}

/// par-core names no runtime, socket, thread pool or C library.
pub(super) fn ground(tree: &Tree) -> Vec<Violation> {
    each(tree, |package, dependency| {
        let name = &*dependency.name;
        let foreign = NOT_IN_CORE.contains(&name) || name.ends_with("-sys");
        (package == "par-core" && !dependency.dev && foreign).then(|| {
            format!(
                "par-core must not depend on {name}: it knows no runtime, socket, thread pool or C library"
            )
        })
    })
}

/// A backend is named by its own crate only.
pub(super) fn backends(tree: &Tree) -> Vec<Violation> {
    each(tree, |package, dependency| {
        let covers = |backend: &str| {
            dependency
                .name
                .strip_prefix(backend)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        BACKENDS
            .iter()
            .find(|(owner, names)| *owner != package && names.iter().any(|name| covers(name)))
            .map(|(owner, _)| format!("only {owner} may depend on {}", dependency.name))
    })
}

/// Crates stand on their floor. Tests of a wing may use other wings; the ground floor's may not, as cargo could not
/// package such a circle.
pub(super) fn floors(tree: &Tree) -> Vec<Violation> {
    each(tree, |package, dependency| {
        let below = FLOORS
            .iter()
            .find(|(name, _)| *name == package)
            .map_or(WING, |(_, below)| below);
        let ground = ["par-core", "par-macros"].contains(&package);
        let inside = dependency.name.starts_with("par-") && dependency.name != package;
        (package != "xtask" && inside && (ground || !dependency.dev) && !below.contains(&&*dependency.name))
            .then(|| {
                format!(
                    "{package} must not depend on {}: it may stand on {below:?}",
                    dependency.name
                )
            })
    })
}

/// Every member takes version, lints and `publish = false` from the workspace.
pub(super) fn shared(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, manifest) in manifests(tree, &mut violations) {
        let Some(package) = manifest.get("package") else {
            let publish = manifest
                .get("workspace")
                .and_then(|w| w.get("package"))
                .and_then(|p| p.get("publish"));
            if publish.and_then(Item::as_bool) != Some(false) {
                violations.push(Violation::new(
                    path,
                    0,
                    "[workspace.package] must say `publish = false`",
                ));
            }
            continue;
        };
        for key in ["publish", "version", "edition", "rust-version", "license"] {
            if !inherits(package.get(key)) {
                violations.push(Violation::new(
                    path,
                    0,
                    format!("[package] must say `{key}.workspace = true`"),
                ));
            }
        }
        if !inherits(manifest.get("lints")) {
            violations.push(Violation::new(path, 0, "[lints] must say `workspace = true`"));
        }
    }
    violations
}

fn inherits(item: Option<&Item>) -> bool {
    item.and_then(|item| item.get("workspace"))
        .and_then(Item::as_bool)
        == Some(true)
}

/// Asks a rule about each dependency of each package.
fn each(tree: &Tree, rule: impl Fn(&str, &Dependency) -> Option<String>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, manifest) in manifests(tree, &mut violations) {
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(Item::as_str);
        let Some(package) = name else { continue };
        for dependency in dependencies(&manifest) {
            if let Some(message) = rule(package, &dependency) {
                violations.push(Violation::new(path, 0, message));
            }
        }
    }
    violations
}

fn manifests<'a>(tree: &'a Tree, violations: &mut Vec<Violation>) -> Vec<(&'a str, DocumentMut)> {
    let mut parsed = Vec::new();
    for (path, text) in tree.ending("Cargo.toml") {
        match text.parse::<DocumentMut>() {
            // A workspace of its own shares nothing with this one: a comparison with what nothing else should build.
            Ok(manifest) if path != "Cargo.toml" && manifest.contains_key("workspace") => {}
            Ok(manifest) => parsed.push((path, manifest)),
            Err(error) => violations.push(Violation::new(path, 0, format!("not TOML: {error}"))),
        }
    }
    parsed
}

fn dependencies(manifest: &DocumentMut) -> Vec<Dependency> {
    let mut found = Vec::new();
    collect(manifest.as_table(), &mut found);
    if let Some(targets) = manifest.get("target").and_then(Item::as_table_like) {
        targets
            .iter()
            .filter_map(|(_, item)| item.as_table_like())
            .for_each(|table| collect(table, &mut found));
    }
    found
}

fn collect(tables: &dyn TableLike, found: &mut Vec<Dependency>) {
    for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
        let entries = tables.get(kind).and_then(Item::as_table_like);
        for (key, item) in entries.into_iter().flat_map(TableLike::iter) {
            let name = item
                .get("package")
                .and_then(Item::as_str)
                .unwrap_or(key)
                .to_owned();
            found.push(Dependency {
                name,
                dev: kind == "dev-dependencies",
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    fn count(rule: fn(&Tree) -> Vec<Violation>, name: &str, rest: &str) -> usize {
        let manifest = format!("[package]\nname = \"{name}\"\n{rest}");
        found(rule, &[("crates/x/Cargo.toml", &manifest)]).len()
    }

    #[test]
    fn core_on_the_ground() {
        assert_eq!(count(ground, "par-core", "[dependencies]\ntokio = \"1\""), 1);
        assert_eq!(
            count(
                ground,
                "par-core",
                "[dependencies]\nfast = { package = \"rayon\", version = \"1\" }"
            ),
            1
        );
        assert_eq!(
            count(
                ground,
                "par-core",
                "[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\""
            ),
            1
        );
        assert_eq!(
            count(ground, "par-core", "[build-dependencies]\nzstd-sys = \"2\""),
            1
        );
        assert_eq!(
            count(ground, "par-core", "[dependencies.mio]\nversion = \"1\""),
            1
        );
        assert_eq!(
            count(
                ground,
                "par-core",
                "[dependencies]\nserde = \"1\"\n[dev-dependencies]\nrayon = \"1\""
            ),
            0
        );
        assert_eq!(count(ground, "par-async", "[dependencies]\ntokio = \"1\""), 0);
        assert_eq!(count(ground, "par-core", "[dependencies\n"), 1);
    }

    #[test]
    fn backends_at_home() {
        assert_eq!(count(backends, "par-sync", "[dependencies]\nmpi = \"0.8\""), 1);
        assert_eq!(
            count(
                backends,
                "par-mpi",
                "[dependencies]\nmpi = { version = \"0.8\", optional = true }"
            ),
            0
        );
        assert_eq!(
            count(backends, "par-core", "[dependencies]\nocl-core = \"0.11\""),
            1
        );
        assert_eq!(
            count(
                backends,
                "par-process",
                "[dev-dependencies]\nrusqlite.workspace = true"
            ),
            1
        );
        assert_eq!(
            count(backends, "xtask", "[dependencies]\nlapin = \"4\"\ncustom = \"1\""),
            1
        );
    }

    #[test]
    fn wings_apart() {
        assert_eq!(
            count(floors, "par-sync", "[dependencies]\npar-process.workspace = true"),
            1
        );
        assert_eq!(
            count(floors, "par-sync", "[dependencies]\npar-core.workspace = true"),
            0
        );
        assert_eq!(
            count(floors, "par-dist", "[dependencies]\npar-process.workspace = true"),
            0
        );
        assert_eq!(
            count(floors, "par-process", "[dependencies]\npar-dist.workspace = true"),
            1
        );
        assert_eq!(
            count(
                floors,
                "par-core",
                "[dev-dependencies]\npar-sync.workspace = true"
            ),
            1
        );
        assert_eq!(
            count(floors, "par-macros", "[dependencies]\npar-core.workspace = true"),
            1
        );
        assert_eq!(
            count(
                floors,
                "par-async",
                "[dev-dependencies]\npar-sync.workspace = true"
            ),
            0
        );
        assert_eq!(
            count(floors, "xtask", "[dependencies]\npar-sync.workspace = true"),
            0
        );
    }

    #[test]
    fn manifests_share() {
        let all = "publish.workspace = true\nversion.workspace = true\nedition.workspace = true\n\
                   rust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true";
        assert_eq!(count(shared, "par-core", all), 0);
        assert_eq!(
            count(shared, "par-core", &all.replace("publish.workspace", "publish")),
            1
        );
        assert_eq!(count(shared, "par-core", &all.replace("[lints]", "[lint]")), 1);
        assert_eq!(
            found(shared, &[("Cargo.toml", "[workspace.package]\npublish = false")]).len(),
            0
        );
        assert_eq!(
            found(shared, &[("Cargo.toml", "[workspace.package]\npublish = true")]).len(),
            1
        );
        assert_eq!(found(shared, &[("Cargo.toml", "[workspace]")]).len(), 1);
    }
}
