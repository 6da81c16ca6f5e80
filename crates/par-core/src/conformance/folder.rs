//! A folder through which tasks tell what happened to them, in whatever process they run.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder that is removed with everything in it. Tasks that wait for its gate go on then.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("par-laws-{}-{number}", std::process::id()));
        // Left behind by a process of the same number that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Folder(path)
    }

    /// The argument for tasks.
    pub(super) fn path(&self) -> String {
        self.0
            .to_str()
            .expect("the folder for temporary files has a name in UTF-8")
            .to_owned()
    }

    /// The lines of a file, none where there is no such file.
    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.0.join(name))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn count(&self, name: &str) -> usize {
        self.lines(name).len()
    }

    /// How often a line stands in a file.
    pub(super) fn count_of(&self, name: &str, line: u64) -> usize {
        let line = line.to_string();
        self.lines(name).iter().filter(|other| **other == line).count()
    }

    /// Has initialisers fail that run from now on, or no more.
    pub(super) fn refuse(&self, fail: bool) {
        if fail {
            note(&self.path(), "refuse", "");
        } else {
            let _ = fs::remove_file(self.0.join("refuse"));
        }
    }

    /// Lets everyone go who waits for the gate.
    pub(super) fn open(&self) {
        note(&self.path(), "open", "");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Somebody may just be writing a last line into it.
        for _ in 0..100 {
            if fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                return;
            }
        }
    }
}

/// Appends a line to a file of the folder, in one write, so that lines of several processes do not mix.
pub(super) fn note(folder: &str, name: &str, line: impl std::fmt::Display) {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(Path::new(folder).join(name));
    if let Ok(mut file) = file {
        // The folder may be gone, with whoever wanted to know.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// Whether initialisers are to fail.
pub(super) fn refuses(folder: &str) -> bool {
    Path::new(folder).join("refuse").exists()
}

/// Whether the gate of the folder is open, or the folder gone.
pub(super) fn is_open(folder: &str) -> bool {
    let folder = Path::new(folder);
    folder.join("open").exists() || !folder.exists()
}

/// Takes the lock of the folder if nobody has it: whoever makes the directory.
pub(super) fn try_lock(folder: &str) -> bool {
    fs::create_dir(Path::new(folder).join("lock")).is_ok()
}

/// Gives the lock back.
pub(super) fn unlock(folder: &str) {
    let _ = fs::remove_dir(Path::new(folder).join("lock"));
}
