//! Workload `wordcount`: words of real text. An item is a batch of files; batches are balanced by bytes.

use super::digest::Digest;
use crate::Error;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Bytes of a batch, roughly: it does not depend on the number of workers, so neither do the results.
const BATCH: u64 = 256 * 1024;

/// The files to count.
#[derive(Debug, PartialEq)]
pub(crate) struct Input {
    /// Paths, in a fixed order, grouped so that batches have about equally many bytes.
    pub(crate) batches: Vec<Vec<String>>,
    /// Number of files.
    pub(crate) files: usize,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Folders that could not be listed and names that are not UTF-8, with the reason.
    pub(crate) left_out: Vec<String>,
}

impl Input {
    /// Keeps the first batches, as many as make up about this many bytes, and at least one.
    pub(crate) fn shorten(&mut self, bytes: u64) {
        let keep = usize::try_from(bytes / BATCH).unwrap_or(usize::MAX).max(1);
        if keep < self.batches.len() {
            self.batches.truncate(keep);
            self.files = self.batches.iter().map(Vec::len).sum();
            let size = |path: &String| fs::metadata(path).map_or(0, |file| file.len());
            self.bytes = self.batches.iter().flatten().map(size).sum();
        }
    }
}

/// Words and how often each occurs, with what was wrong with the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// By word, sorted.
    pub(crate) words: BTreeMap<String, u64>,
    /// Files with bytes that are not UTF-8; each such sequence separates words.
    pub(crate) not_utf8: u64,
    /// Files that could not be read to the end, with the reason; what was read before still counts.
    pub(crate) unreadable: Vec<String>,
}

impl Counts {
    /// Adds what follows to what came before.
    pub(crate) fn merge(mut self, mut later: Self) -> Self {
        // Counts add up in either order, so the smaller table goes into the larger one.
        if self.words.len() < later.words.len() {
            std::mem::swap(&mut self.words, &mut later.words);
        }
        for (word, count) in later.words {
            *self.words.entry(word).or_default() += count;
        }
        self.not_utf8 += later.not_utf8;
        self.unreadable.extend(later.unreadable);
        self
    }

    /// The most frequent words, equally frequent ones by alphabet.
    pub(crate) fn top(&self, n: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<(&str, u64)> = self.words.iter().map(|(word, count)| (&**word, *count)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all.truncate(n);
        all
    }

    pub(crate) fn digest(&self) -> String {
        let mut digest = Digest::new()
            .number(self.not_utf8)
            .number(self.unreadable.len() as u64);
        for (word, count) in &self.words {
            digest = digest.text(word).number(*count);
        }
        digest.hex()
    }
}

/// Finds the files: those of `input`, a file or a folder of text; without one, all `.rs`, `.md` and `.toml` files of the
/// packages that cargo has unpacked on this machine.
///
/// # Errors
/// There is no such path, or no file in it.
pub(crate) fn find(input: Option<&Path>) -> Result<Input, Error> {
    let (root, ends): (PathBuf, &[&str]) = match input {
        Some(path) => (path.to_path_buf(), &[""]),
        None => (registry()?, &[".rs", ".md", ".toml"]),
    };
    let kind = fs::metadata(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    if kind.is_dir() {
        list(&root, ends, &mut found, &mut left_out);
    } else {
        match root.to_str() {
            Some(path) => found.push((path.to_owned(), kind.len())),
            None => left_out.push(format!("{}: the name is not UTF-8", root.display())),
        }
    }
    if found.is_empty() {
        return Err(format!(
            "no text file in {}: name a file or a folder with --input",
            root.display()
        )
        .into());
    }
    // The order of a directory differs between machines and runs.
    found.sort();
    let (files, bytes) = (found.len(), found.iter().map(|(_, size)| size).sum());
    Ok(Input {
        batches: batches(found),
        files,
        bytes,
        left_out,
    })
}

fn registry() -> Result<PathBuf, Error> {
    let cargo = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .ok_or("neither CARGO_HOME nor a home folder is known: name a folder with --input")?;
    Ok(cargo.join("registry").join("src"))
}

/// Lists files below a folder; links are not followed, as they may lead in circles.
fn list(folder: &Path, ends: &[&str], found: &mut Vec<(String, u64)>, left_out: &mut Vec<String>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return left_out.push(format!("{}: {error}", folder.display())),
    };
    for entry in entries {
        let read = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)));
        match read {
            Ok((path, kind)) if kind.is_dir() => list(&path, ends, found, left_out),
            Ok((path, kind)) if kind.is_file() => match path.to_str() {
                Some(text) if ends.iter().any(|end| text.ends_with(end)) => {
                    found.push((text.to_owned(), kind.len()))
                }
                Some(_) => {}
                None => left_out.push(format!("{}: the name is not UTF-8", path.display())),
            },
            Ok(_) => {}
            Err(error) => left_out.push(format!("{}: {error}", folder.display())),
        }
    }
}

fn batches(files: Vec<(String, u64)>) -> Vec<Vec<String>> {
    let mut batches = vec![Vec::new()];
    let mut filled = 0;
    for (path, size) in files {
        if filled >= BATCH {
            batches.push(Vec::new());
            filled = 0;
        }
        filled += size;
        if let Some(batch) = batches.last_mut() {
            batch.push(path);
        }
    }
    batches
}

/// Counts the words of a batch: runs of letters and digits, in lower case.
pub(crate) fn count(batch: &[String]) -> Counts {
    let mut words: HashMap<String, u64> = HashMap::new();
    let mut counts = Counts::default();
    for path in batch {
        match count_file(Path::new(path), &mut words) {
            Ok(not_utf8) => counts.not_utf8 += u64::from(not_utf8),
            Err(error) => counts.unreadable.push(format!("{path}: {error}")),
        }
    }
    counts.words = words.into_iter().collect();
    counts
}

/// Returns whether the file had bytes that are not UTF-8.
fn count_file(path: &Path, words: &mut HashMap<String, u64>) -> std::io::Result<bool> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut line, mut not_utf8) = (Vec::new(), false);
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        not_utf8 |= matches!(text, std::borrow::Cow::Owned(_));
        for word in text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
        {
            let lower = word.to_lowercase();
            *words.entry(lower).or_default() += 1;
        }
        line.clear();
    }
    Ok(not_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn all(input: &Input) -> Counts {
        input
            .batches
            .iter()
            .map(|batch| count(batch))
            .fold(Counts::default(), Counts::merge)
    }

    #[test]
    fn words_are_counted() {
        let folder = folder(&[
            ("b/a.txt", b"The rest, the Rest.\nknow_knows 42"),
            ("a.txt", "\u{c9}t\u{e9} the".as_bytes()),
        ]);
        let input = find(Some(folder.path())).unwrap();
        assert_eq!((input.files, input.bytes), (2, 42));
        let counts = all(&input);
        assert_eq!(counts.top(3), [("the", 3), ("rest", 2), ("42", 1)]);
        assert_eq!(counts.words["\u{e9}t\u{e9}"], 1);
        assert_eq!(counts.words.len(), 6);
    }

    #[test]
    fn bad_bytes_and_vanished_files_are_reported() {
        let folder = folder(&[("a.txt", b"one \xff\xfe two\n"), ("b.txt", b"three")]);
        let mut input = find(Some(folder.path())).unwrap();
        input.batches[0].push("/no/such/file".to_owned());
        let counts = all(&input);
        assert_eq!(
            (counts.words.len(), counts.not_utf8, counts.unreadable.len()),
            (3, 1, 1)
        );
        assert!(counts.unreadable[0].starts_with("/no/such/file: "));
    }

    #[test]
    fn batches_are_balanced_ordered_and_complete() {
        let files: Vec<_> = (0..100).map(|i| (format!("{i:03}"), (i % 7) * 30_000)).collect();
        let total: u64 = files.iter().map(|file| file.1).sum();
        let size = |batch: &Vec<String>| -> u64 {
            batch
                .iter()
                .map(|path| (path.parse::<u64>().unwrap() % 7) * 30_000)
                .sum()
        };
        let made = batches(files.clone());
        assert_eq!(
            made.concat(),
            files.into_iter().map(|file| file.0).collect::<Vec<_>>()
        );
        assert_eq!(made.iter().map(size).sum::<u64>(), total);
        let (last, full) = made.split_last().unwrap();
        assert!(
            full.iter()
                .all(|batch| (BATCH..BATCH + 180_000).contains(&size(batch)))
                && !last.is_empty()
        );
    }

    #[test]
    fn shortened_input_keeps_the_first_batches() {
        let big = vec![b'x'; BATCH as usize];
        let folder = folder(&[("a", &big), ("b", &big), ("c", &big)]);
        let mut input = find(Some(folder.path())).unwrap();
        input.shorten(2 * BATCH);
        assert_eq!((input.batches.len(), input.files, input.bytes), (2, 2, 2 * BATCH));
        input.shorten(0);
        assert_eq!(input.batches.len(), 1);
        assert!(input.batches[0][0].ends_with("/a"));
    }

    #[test]
    fn merging_does_not_depend_on_grouping() {
        let of = |words: &[(&str, u64)]| Counts {
            words: words
                .iter()
                .map(|(word, count)| ((*word).to_owned(), *count))
                .collect(),
            ..Counts::default()
        };
        let (a, b, c) = (
            of(&[("x", 1), ("y", 2)]),
            of(&[("y", 3)]),
            of(&[("x", 5), ("z", 1)]),
        );
        let left = a.clone().merge(b.clone()).merge(c.clone());
        let right = a.clone().merge(b.merge(c));
        assert_eq!(left, right);
        assert_eq!(left.digest(), right.digest());
        assert_ne!(left.digest(), a.digest());
    }

    #[test]
    fn bad_input_is_named() {
        let error = find(Some(Path::new("/no/such/folder"))).unwrap_err().to_string();
        assert!(error.starts_with("/no/such/folder: "), "{error}");
        let empty = tempfile::tempdir().unwrap();
        assert!(
            find(Some(empty.path()))
                .unwrap_err()
                .to_string()
                .contains("no text file")
        );
    }
}
