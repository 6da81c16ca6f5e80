//! A digest over the exact bits of a result, to compare engines: FNV-1a with 64 bits.
//!
//! It need not withstand an attacker, only tell one honest result from another. Offset and prime are those of
//! draft-eastlake-fnv, "The FNV Non-Cryptographic Hash Algorithm".

/// A digest that bytes are fed into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest(u64);

impl Digest {
    /// The digest of nothing.
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Takes bytes in; their boundaries do not count.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// Takes a whole number in.
    pub(crate) fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Takes a text in, with its length, so that "ab" and "c" differ from "a" and "bc".
    pub(crate) fn text(self, text: &str) -> Self {
        self.number(text.len() as u64).bytes(text.as_bytes())
    }

    /// Sixteen hexadecimal digits.
    pub(crate) fn hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the draft's appendix.
    #[test]
    fn known_answers() {
        assert_eq!(Digest::new().hex(), "cbf29ce484222325");
        assert_eq!(Digest::new().bytes(b"a").hex(), "af63dc4c8601ec8c");
        assert_eq!(Digest::new().bytes(b"foobar").hex(), "85944171f73967e8");
    }

    #[test]
    fn text_boundaries_count() {
        assert_ne!(
            Digest::new().text("ab").text("c").hex(),
            Digest::new().text("a").text("bc").hex()
        );
    }
}
