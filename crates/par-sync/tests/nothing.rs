//! Without the features, detector and statistics are no instruction: a function that uses a lock of this crate is the same machine code as
//! one that uses parking_lot's.
#![cfg(all(
    target_arch = "x86_64",
    not(any(feature = "deadlock", feature = "statistics"))
))]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Pairs of functions, ours and parking_lot's, that do the same.
const SOURCE: &str = r#"
#[unsafe(no_mangle)]
pub fn ours_mutex(lock: &par_sync::Mutex<u64>) { *lock.lock() += 1; }
#[unsafe(no_mangle)]
pub fn theirs_mutex(lock: &parking_lot::Mutex<u64>) { *lock.lock() += 1; }

#[unsafe(no_mangle)]
pub fn ours_try(lock: &par_sync::Mutex<u64>) -> bool { lock.try_lock().map(|mut value| *value += 1).is_ok() }
#[unsafe(no_mangle)]
pub fn theirs_try(lock: &parking_lot::Mutex<u64>) -> bool { lock.try_lock().map(|mut value| *value += 1).is_some() }

#[unsafe(no_mangle)]
pub fn ours_read(lock: &par_sync::RwLock<u64>) -> u64 { *lock.read() }
#[unsafe(no_mangle)]
pub fn theirs_read(lock: &parking_lot::RwLock<u64>) -> u64 { *lock.read() }

#[unsafe(no_mangle)]
pub fn ours_write(lock: &par_sync::RwLock<u64>) { *lock.write() += 1; }
#[unsafe(no_mangle)]
pub fn theirs_write(lock: &parking_lot::RwLock<u64>) { *lock.write() += 1; }

#[unsafe(no_mangle)]
pub fn ours_notify(signal: &par_sync::Condvar) -> bool { signal.notify_one() }
#[unsafe(no_mangle)]
pub fn theirs_notify(signal: &parking_lot::Condvar) -> bool { signal.notify_one() }
"#;

/// The instructions of each function of the source, without what names places.
fn functions(assembly: &str) -> Vec<(String, Vec<String>)> {
    let mut functions: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in assembly.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_suffix(':') {
            if ["ours_", "theirs_"].iter().any(|side| name.starts_with(side)) {
                functions.push((name.to_owned(), Vec::new()));
                inside = true;
            }
            continue;
        }
        if line.starts_with(".cfi_endproc") {
            inside = false;
        }
        // Directives are no instructions; labels have numbers of their own.
        if inside && !line.starts_with(['.', '#']) {
            let plain: String = line.chars().filter(|letter| !letter.is_ascii_digit()).collect();
            if let Some((_, lines)) = functions.last_mut() {
                lines.push(plain);
            }
        }
    }
    functions
}

/// The dependencies are those of the workspace, which are there already.
fn build(place: &Path) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = here.ancestors().nth(2).expect("the workspace");
    std::fs::create_dir_all(place.join("src")).expect("a place for a crate");
    let manifest = format!(
        "[package]\nname = \"nothing\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[lib]\n\
         [dependencies]\npar-sync = {{ path = {here:?} }}\nparking_lot = \"0.13\"\n\
         [profile.release]\ncodegen-units = 1\n"
    );
    std::fs::write(place.join("Cargo.toml"), manifest).expect("a manifest");
    std::fs::write(place.join("src/lib.rs"), SOURCE).expect("a source");
    std::fs::copy(workspace.join("Cargo.lock"), place.join("Cargo.lock")).expect("a lock file");
    let target = place.join("target");
    let built = Command::new(env!("CARGO"))
        .args(["rustc", "--release", "--lib", "--target-dir"])
        .arg(&target)
        .args(["--", "--emit=asm"])
        .current_dir(place)
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let assembly = std::fs::read_dir(target.join("release/deps"))
        .expect("it was built")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|kind| kind == "s"));
    std::fs::read_to_string(assembly.expect("an assembly file")).expect("text")
}

#[test]
fn not_an_instruction_is_added() {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nothing");
    // What an older build left there would be found.
    let _ = std::fs::remove_dir_all(place.join("target/release/deps/"));
    let assembly = build(&place);
    let functions = functions(&assembly);
    let code = |name: String| {
        let found = functions.iter().find(|(other, _)| *other == name);
        found.map(|(_, lines)| lines.clone())
    };
    for what in ["mutex", "try", "read", "write", "notify"] {
        // Functions of equal code may have been made one by the compiler.
        let merged = [
            format!("ours_{what} = theirs_{what}"),
            format!("theirs_{what} = ours_{what}"),
        ];
        if assembly
            .lines()
            .any(|line| merged.iter().any(|same| same == line.trim()))
        {
            continue;
        }
        let (ours, theirs) = (code(format!("ours_{what}")), code(format!("theirs_{what}")));
        assert!(
            ours.as_ref().is_some_and(|lines| lines.len() > 2),
            "{what}: {ours:?}"
        );
        assert_eq!(ours, theirs, "{what}");
    }
}
