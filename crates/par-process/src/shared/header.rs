//! What a segment says of itself: the first bytes of its file, written once before anybody else sees it.

use super::SharedError;
use bytemuck::{Pod, Zeroable};

/// Bytes of the header; what is shared begins behind it, or at the next page.
pub(crate) const SIZE: usize = 256;
/// Alignments beyond a cache line's bring nothing, and are refused.
pub(crate) const ALIGN: usize = 128;
const PAGE: usize = 4096;
const MAGIC: u64 = u64::from_le_bytes(*b"par-shm\n");
/// Changes with the layout of anything that is shared, locks included.
const VERSION: u32 = 1;
const TEXT: usize = SIZE - 72;

/// Names a segment among all that ever were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Id(pub(crate) [u64; 2]);

/// What is to be shared.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// The type, as errors name it.
    pub(crate) text: String,
    /// Bytes in front of the elements.
    pub(crate) head: usize,
    pub(crate) count: usize,
    /// Whether no other count is right.
    pub(crate) exact: bool,
    pub(crate) size: usize,
    pub(crate) align: usize,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Header {
    magic: u64,
    version: u32,
    text_length: u32,
    pub(crate) id: Id,
    /// Where what is shared begins.
    pub(crate) offset: u64,
    head: u64,
    count: u64,
    size: u64,
    align: u64,
    text: [u8; TEXT],
}

impl Header {
    /// The header for what is to be shared.
    pub(crate) fn new(id: Id, spec: &Spec, huge: bool) -> Result<Self, SharedError> {
        let layout = || SharedError::Layout {
            what: format!("{} x {} of {} bytes", spec.text, spec.count, spec.size),
        };
        if spec.align > ALIGN || !spec.head.is_multiple_of(ALIGN) {
            return Err(layout());
        }
        let bytes = spec.count.checked_mul(spec.size).ok_or_else(layout)?;
        let offset = match bytes {
            _ if huge => super::mapping::HUGE,
            0..PAGE => SIZE,
            _ => PAGE,
        };
        let mut text = [0; TEXT];
        let name = name_of(&spec.text);
        text[..name.len()].copy_from_slice(name.as_bytes());
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            text_length: name.len() as u32,
            id,
            offset: offset as u64,
            head: spec.head as u64,
            count: spec.count as u64,
            size: spec.size as u64,
            align: spec.align as u64,
            text,
        };
        header.length().map(|_| header).ok_or_else(layout)
    }

    /// Whether the bytes of a file of this length can be a header.
    pub(crate) fn check(&self, length: u64) -> Result<(), SharedError> {
        let foreign = |reason: String| Err(SharedError::Foreign { reason });
        if self.magic != MAGIC {
            return foreign("it does not begin as one".to_owned());
        }
        if self.version != VERSION {
            let version = self.version;
            return foreign(format!(
                "it has version {version}, and this program knows {VERSION}"
            ));
        }
        if self.offset < SIZE as u64
            || !self.offset.is_multiple_of(ALIGN as u64)
            || !self.head.is_multiple_of(ALIGN as u64)
        {
            return foreign("its layout is none".to_owned());
        }
        match self.length() {
            Some(needed) if needed as u64 <= length => Ok(()),
            _ => foreign(format!("it has {length} bytes, fewer than it says")),
        }
    }

    /// Whether what is shared is of this type: its name, and the sizes that this program gives to it.
    pub(crate) fn expect(&self, expected: &Spec) -> Result<(), SharedError> {
        let same = self.text() == name_of(&expected.text)
            && (self.head, self.size, self.align)
                == (expected.head as u64, expected.size as u64, expected.align as u64)
            && (!expected.exact || self.count == expected.count as u64);
        if same {
            return Ok(());
        }
        Err(SharedError::Type {
            found: format!("{}, {} elements of {} bytes", self.text(), self.count, self.size),
            expected: format!("{} in elements of {} bytes", expected.text, expected.size),
        })
    }

    /// The length of the file.
    pub(crate) fn length(&self) -> Option<usize> {
        let bytes = self.count.checked_mul(self.size)?.checked_add(self.head)?;
        let length = self.offset.checked_add(bytes)?;
        // No larger thing can be addressed.
        usize::try_from(length)
            .ok()
            .filter(|length| isize::try_from(*length).is_ok())
    }

    /// How many elements there are.
    pub(crate) fn count(&self) -> usize {
        // It fits, as the length does (elements without size apart).
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    fn text(&self) -> String {
        let length = (self.text_length as usize).min(TEXT);
        String::from_utf8_lossy(&self.text[..length]).into_owned()
    }
}

/// The name of a type as it fits into the header; of long ones the end differs.
fn name_of(text: &str) -> String {
    if text.len() <= TEXT {
        return text.to_owned();
    }
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut end = TEXT - 20;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...{hash:016x}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str, count: usize) -> Spec {
        Spec {
            text: text.to_owned(),
            head: 0,
            count,
            exact: false,
            size: 8,
            align: 8,
        }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let header = Header::new(Id([1, 2]), &spec("a", 3), false).expect("fits");
        assert_eq!(size_of::<Header>(), SIZE);
        assert_eq!(header.length(), Some(SIZE + 24));
        header.check(SIZE as u64 + 24).expect("long enough");
        header.expect(&spec("a", 0)).expect("the same type");
        let exact = Spec {
            exact: true,
            ..spec("a", 1)
        };
        header.expect(&exact).expect_err("three, not one");
        let short = header.check(SIZE as u64 + 23).expect_err("too short").to_string();
        assert!(short.ends_with("it has 279 bytes, fewer than it says"), "{short}");
        let other = header
            .expect(&spec("b", 3))
            .expect_err("another type")
            .to_string();
        assert_eq!(
            other,
            "the shared memory holds a, 3 elements of 8 bytes, and b in elements of 8 bytes was expected"
        );
    }

    #[test]
    fn hostile_headers_are_refused() {
        let good = Header::new(Id([1, 2]), &spec("a", 3), false).expect("fits");
        for bad in [
            Header { magic: 0, ..good },
            Header { version: 2, ..good },
            Header { offset: 8, ..good },
            Header { offset: 257, ..good },
            Header { head: 1, ..good },
            Header {
                count: 1 << 60,
                ..good
            },
            Header {
                count: u64::MAX,
                size: u64::MAX,
                ..good
            },
            Header {
                offset: u64::MAX - 127,
                ..good
            },
        ] {
            bad.check(1 << 20).expect_err("refused");
        }
        Header {
            text_length: u32::MAX,
            ..good
        }
        .expect(&spec("a", 3))
        .expect_err("another text");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for count in [usize::MAX, usize::MAX / 8, 1 << 61] {
            Header::new(Id([1, 2]), &spec("a", count), false).expect_err("too large");
        }
        let long = "x".repeat(500);
        let header = Header::new(Id([1, 2]), &spec(&long, 1), false).expect("fits");
        header.expect(&spec(&long, 1)).expect("the same type");
        header
            .expect(&spec(&"x".repeat(501), 1))
            .expect_err("another type");
    }
}
