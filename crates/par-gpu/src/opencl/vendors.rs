//! Which drivers the loader was told of, and what is wrong with them: the loader does not say.
//!
//! It reads files that end in `.icd`, each with the name of a driver's library on its first line, from the folder in
//! `OCL_ICD_VENDORS` or `/etc/OpenCL/vendors`.

use super::sys;
use std::fs;
use std::path::{Path, PathBuf};

/// What is wrong, in words, where there is no platform.
pub(super) fn explain() -> String {
    let place = place();
    let files = registered(&place);
    let place = place.display();
    if files.is_empty() {
        return format!("the OpenCL library knows no platform: {place} names no driver");
    }
    let fault = |file: &PathBuf| {
        driver(file).map_or_else(
            |fault| fault,
            |library| {
                let shown = file.display();
                format!("{library}, named in {shown}, offers no platform: it is no driver, or a broken one")
            },
        )
    };
    let what: Vec<String> = files.iter().map(fault).collect();
    format!("the OpenCL library knows no platform: {}", what.join("; "))
}

/// What is wrong with each driver that cannot be loaded, where others can.
pub(super) fn broken() -> Vec<String> {
    let files = registered(&place());
    files.iter().filter_map(|file| driver(file).err()).collect()
}

fn place() -> PathBuf {
    let named = std::env::var_os("OCL_ICD_VENDORS").map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from("/etc/OpenCL/vendors"))
}

/// The `.icd` files of a folder, or the file itself; a bounded number of them.
fn registered(place: &Path) -> Vec<PathBuf> {
    let is_icd = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "icd");
    if place.is_file() {
        return Some(place.to_owned()).filter(is_icd).into_iter().collect();
    }
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(is_icd)
        .take(64)
        .collect();
    files.sort();
    files
}

/// The library that a file names, which can be loaded; else what is wrong with it.
fn driver(file: &Path) -> Result<String, String> {
    let shown = file.display();
    let unreadable = |error| format!("{shown} cannot be read: {error}");
    let metadata = fs::metadata(file).map_err(unreadable)?;
    // Not a pipe, which would make us wait.
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let len = metadata.len();
    if len > 4096 {
        return Err(format!("{shown} has {len} bytes, where one line is expected"));
    }
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let library = text.lines().next().unwrap_or_default().trim();
    if library.is_empty() {
        return Err(format!("{shown} names no library"));
    }
    match sys::try_to_load(library) {
        Ok(()) => Ok(library.to_owned()),
        Err(error) => Err(format!("{library}, named in {shown}, cannot be loaded: {error}")),
    }
}
