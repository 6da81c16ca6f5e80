//! Entries: code of this very build, named by its distance from an anchor.
//!
//! Workers that run the same program have the same entries at the same distances, wherever the program was loaded. A distance
//! that arrives is believed only if it leads to readable memory of this program's own file, aligned, with the magic number of
//! an entry, whose function lies in executable memory of that file. The engine has checked the build id before.
//!
//! The anchor is a static: a function may be duplicated by the compiler, and then has several addresses.

use crate::remote::RunFn;
use std::ops::Range;
use std::sync::OnceLock;

#[repr(C)]
struct Header {
    magic: u64,
    run: RunFn,
}

const MAGIC: u64 = 0x7061_725f_656e_7472; // "par_entr"

static ANCHOR: Header = Header {
    magic: 0,
    run: |_| {},
};

/// Code that can be called by entry.
pub(crate) trait HasRun: 'static {
    const RUN: RunFn;
}

struct Of<C>(std::marker::PhantomData<C>);

impl<C: HasRun> Of<C> {
    const HEADER: &'static Header = &Header {
        magic: MAGIC,
        run: C::RUN,
    };
}

/// The distance of the entry of `C`.
pub(crate) fn offset_of<C: HasRun>() -> u64 {
    distance(std::ptr::from_ref(Of::<C>::HEADER).addr())
}

/// The distance of any address of this program, such as a function's.
pub(crate) fn distance(address: usize) -> u64 {
    address.wrapping_sub(anchor()) as u64
}

fn anchor() -> usize {
    std::ptr::from_ref(&ANCHOR).addr()
}

/// The code of the entry at that distance.
pub(crate) fn resolve(offset: u64) -> Result<RunFn, String> {
    let bad = |why: &str| format!("no entry of this program at distance {offset:#x}: {why}");
    let address = anchor().wrapping_add(offset as usize);
    if !address.is_multiple_of(align_of::<Header>()) {
        return Err(bad("it is not aligned"));
    }
    let image = image()?;
    if !within(&image.readable, address, size_of::<Header>()) {
        return Err(bad("it lies outside of the program"));
    }
    let header = std::ptr::from_ref(&ANCHOR)
        .with_addr(address)
        .cast::<[usize; 2]>();
    // SAFETY: the range is aligned and lies within a readable mapping of this program's file, which stays mapped. Any bits
    // are valid integers.
    let [magic, run] = unsafe { header.read() };
    if magic as u64 != MAGIC {
        return Err(bad("there is none"));
    }
    if !within(&image.executable, run, 1) {
        return Err(bad("its code lies outside of the program"));
    }
    // SAFETY: an address with the magic number in this program's read-only data holds a `Header` that the compiler made, so
    // `run` is a `RunFn`; it lies in the program's code as checked.
    Ok(unsafe { std::mem::transmute::<usize, RunFn>(run) })
}

/// The address of a function at that distance, if it lies in this program's code.
pub(crate) fn resolve_code(offset: u64) -> Result<usize, String> {
    let address = anchor().wrapping_add(offset as usize);
    if within(&image()?.executable, address, 1) {
        Ok(address)
    } else {
        Err(format!("no function of this program at distance {offset:#x}"))
    }
}

fn within(ranges: &[Range<usize>], address: usize, len: usize) -> bool {
    ranges
        .iter()
        .any(|range| range.start <= address && address.checked_add(len).is_some_and(|end| end <= range.end))
}

/// Where the program's file is mapped.
struct Image {
    readable: Vec<Range<usize>>,
    executable: Vec<Range<usize>>,
}

fn image() -> Result<&'static Image, String> {
    static IMAGE: OnceLock<Result<Image, String>> = OnceLock::new();
    IMAGE
        .get_or_init(|| {
            let maps = std::fs::read_to_string("/proc/self/maps")
                .map_err(|e| format!("calling by entry needs /proc/self/maps: {e}"))?;
            Ok(parse_maps(&maps, anchor()))
        })
        .as_ref()
        .map_err(Clone::clone)
}

/// The mappings of the file that `inside` is mapped from. The format is that of proc(5).
fn parse_maps(maps: &str, inside: usize) -> Image {
    let lines: Vec<(Range<usize>, &str, &str)> = maps
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(6, ' ');
            let (start, end) = fields.next()?.split_once('-')?;
            let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
            let rights = fields.next()?;
            Some((range, rights, fields.nth(3)?.trim_start()))
        })
        .collect();
    let file = lines
        .iter()
        .find(|(range, ..)| range.contains(&inside))
        .map_or("", |(.., file)| *file);
    let of = |right: char, at: usize| {
        lines
            .iter()
            .filter(|(_, rights, name)| {
                !file.is_empty() && *name == file && rights.chars().nth(at) == Some(right)
            })
            .map(|(range, ..)| range.clone())
            .collect()
    };
    Image {
        readable: of('r', 0),
        executable: of('x', 2),
    }
}

/// A hash of the running program's file: equal numbers mean the same build, so that entries may be exchanged.
///
/// # Errors
/// A text if the file of the running program cannot be read.
pub fn build_id() -> Result<u64, String> {
    static ID: OnceLock<Result<u64, String>> = OnceLock::new();
    ID.get_or_init(|| {
        // The link leads to the file that was started, also when another was built in its place meanwhile.
        let bytes =
            std::fs::read("/proc/self/exe").map_err(|e| format!("cannot read the running program: {e}"))?;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ bytes.len() as u64;
        for word in bytes.chunks(8) {
            let mut eight = [0; 8];
            eight[..word.len()].copy_from_slice(word);
            // FNV-1a over words instead of bytes, with a rotation that brings the high bits down: one multiplication a word.
            hash = (hash ^ u64::from_le_bytes(eight))
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(23);
        }
        Ok(hash)
    })
    .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample;
    impl HasRun for Sample {
        const RUN: RunFn = |run| run.reply.push(42);
    }

    #[test]
    #[cfg(not(miri))] // which has no /proc and no real addresses
    fn an_entry_is_found_again_and_nothing_else_is() {
        let offset = offset_of::<Sample>();
        assert!(resolve(offset).is_ok());
        for wrong in [
            offset + 1,
            offset + 8,
            0,
            8,
            u64::MAX,
            1 << 40,
            distance(resolve as *const () as usize),
        ] {
            assert!(resolve(wrong).is_err(), "{wrong:#x}");
        }
        assert!(resolve_code(distance(resolve as *const () as usize)).is_ok());
        assert!(resolve_code(offset).is_err());
    }

    #[test]
    fn maps_of_other_files_do_not_count() {
        let maps = "1000-2000 r--p 00000000 fe:00 1 /bin/me\n2000-3000 r-xp 00001000 fe:00 1 /bin/me\n\
                    5000-6000 r-xp 00000000 fe:00 2 /lib/other\n7000-8000 rw-p 00000000 00:00 0 \n";
        let image = parse_maps(maps, 0x1800);
        assert_eq!(image.readable, [0x1000..0x2000, 0x2000..0x3000]);
        assert_eq!(image.executable.first(), Some(&(0x2000..0x3000)));
    }
}
