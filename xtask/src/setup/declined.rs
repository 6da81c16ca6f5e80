//! What a user did not want to have installed: a line each, in a file beside what cargo builds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

pub(super) struct Declined {
    file: PathBuf,
    names: BTreeSet<String>,
}

impl Declined {
    /// What was declined before. A file that cannot be read declines nothing: then the user is asked once more.
    pub(super) fn of(target: &Path) -> Self {
        let file = target.join("par-setup-declined");
        let names = fs::read_to_string(&file).unwrap_or_default();
        Declined {
            names: names.lines().map(str::to_owned).collect(),
            file,
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Keeps these as well.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add<'a>(mut self, names: impl Iterator<Item = &'a str>) -> io::Result<()> {
        self.names.extend(names.map(str::to_owned));
        let lines: String = self.names.iter().map(|name| format!("{name}\n")).collect();
        fs::write(&self.file, lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_declined_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let first = Declined::of(folder.path());
        assert!(!first.has("MPI"));
        first.add(["MPI"].into_iter()).unwrap();
        Declined::of(folder.path())
            .add(["OpenCL", "MPI"].into_iter())
            .unwrap();
        let back = Declined::of(folder.path());
        assert!(back.has("MPI") && back.has("OpenCL") && !back.has("RabbitMQ"));
    }
}
