//! Which drivers the loader was told of, for a machine where it found none that works.
//!
//! The loader reads files that end in `.icd`, each with the name of a driver's library on its first line, from the folder
//! in `OCL_ICD_VENDORS` or `/etc/OpenCL/vendors`; it does not say what was wrong with one.

use super::sys;
use std::fs;
use std::path::{Path, PathBuf};

/// What is wrong, in words; asked only where there is no platform.
pub(super) fn explain() -> String {
    let named = std::env::var_os("OCL_ICD_VENDORS").map(PathBuf::from);
    let place = named.unwrap_or_else(|| PathBuf::from("/etc/OpenCL/vendors"));
    let files = registered(&place);
    let place = place.display();
    if files.is_empty() {
        return format!("the OpenCL library knows no platform: {place} names no driver");
    }
    let what: Vec<String> = files.iter().map(|file| fault(file)).collect();
    format!("the OpenCL library knows no platform: {}", what.join("; "))
}

/// The `.icd` files of a folder, or the file itself; a bounded number of them.
fn registered(place: &Path) -> Vec<PathBuf> {
    let is_icd = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "icd");
    if place.is_file() {
        return vec![place.to_owned()];
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

/// What is wrong with the driver that a file names.
fn fault(file: &Path) -> String {
    let shown = file.display();
    let text = match fs::metadata(file).map(|metadata| metadata.len()) {
        Ok(0..=4096) => fs::read_to_string(file),
        Ok(len) => return format!("{shown} has {len} bytes, where one line is expected"),
        Err(error) => Err(error),
    };
    match text {
        Err(error) => format!("{shown} cannot be read: {error}"),
        Ok(text) => match text.lines().next().map(str::trim) {
            None | Some("") => format!("{shown} names no library"),
            Some(library) => match sys::try_to_load(library) {
                Err(error) => format!("{library}, named in {shown}, cannot be loaded: {error}"),
                Ok(()) => format!(
                    "{library}, named in {shown}, offers no platform: it is no driver, or a broken one"
                ),
            },
        },
    }
}
