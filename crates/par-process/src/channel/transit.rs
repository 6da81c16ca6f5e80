//! Open files on their way to another process: what a value lends while it is encoded, and takes when it is decoded.
//!
//! 1. A file is written as [`MARK`] and its place among the files that travel beside the bytes. The sender's copy of the
//!    file is made at that moment, so that what happens to the value afterwards does not matter.
//! 2. Lending works within [`lend`] and taking within [`with`], on the same thread. Everywhere else a file is an error, as
//!    its number means nothing in another process.
//! 3. A file is taken once. What nobody took is closed when its message has been read.

use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most files that travel with one message, as the system takes no more than 253 at once.
pub(crate) const MOST_FILES: usize = 128;

/// Stands before the place of a file, so that no number that was meant otherwise reads as one.
const MARK: u64 = 0x7061_725f_6669_6c65;

thread_local! {
    /// What the value that is being encoded has lent.
    static LENT: RefCell<Option<Vec<OwnedFd>>> = const { RefCell::new(None) };
    /// What the value that is being decoded may take.
    static ARRIVED: RefCell<Option<Vec<Option<OwnedFd>>>> = const { RefCell::new(None) };
}

/// Puts back what was there before, also while unwinding: `Serialize` and `Deserialize` are the user's code.
struct Restore<T: 'static>(&'static std::thread::LocalKey<RefCell<Option<T>>>, Option<T>);

impl<T> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.replace(self.1.take());
    }
}

/// Encodes with files: returns what `encode` returns, and the files that it lent.
pub(crate) fn lend<R>(encode: impl FnOnce() -> R) -> (R, Vec<OwnedFd>) {
    let restore = Restore(&LENT, LENT.replace(Some(Vec::new())));
    let result = encode();
    let lent = LENT.take().unwrap_or_default();
    drop(restore);
    (result, lent)
}

/// Decodes with the files that came along.
pub(crate) fn with<R>(files: Vec<OwnedFd>, decode: impl FnOnce() -> R) -> R {
    let arrived = files.into_iter().map(Some).collect();
    let _restore = Restore(&ARRIVED, ARRIVED.replace(Some(arrived)));
    decode()
}

/// Writes a file as a value.
pub(super) fn serialize<S: Serializer>(
    file: BorrowedFd<'_>,
    what: &str,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let place = LENT.with_borrow_mut(|lent| {
        let Some(lent) = lent else {
            return Err(format!(
                "{what} is an open file of this process; it can be sent through a Pipe or given to a Process, nowhere else"
            ));
        };
        if lent.len() == MOST_FILES {
            return Err(format!("more than {MOST_FILES} files in one message"));
        }
        let copy = file
            .try_clone_to_owned()
            .map_err(|error| format!("{what} cannot be sent: {error}"))?;
        lent.push(copy);
        Ok(lent.len() as u64 - 1)
    });
    (MARK, place.map_err(par_core::wire::refuse)?).serialize(serializer)
}

/// Reads a file that was written as a value.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    what: &str,
    deserializer: D,
) -> Result<OwnedFd, D::Error> {
    let (mark, place) = <(u64, u64)>::deserialize(deserializer)?;
    if mark != MARK {
        return Err(de::Error::custom(format!(
            "{what} was expected, and these bytes are none"
        )));
    }
    let file = ARRIVED.with_borrow_mut(|arrived| {
        let arrived = arrived.as_mut().ok_or_else(|| {
            format!("{what} is an open file of another process; it can be received from a Pipe or by a Process, nowhere else")
        })?;
        let count = arrived.len();
        usize::try_from(place)
            .ok()
            .and_then(|place| arrived.get_mut(place))
            .and_then(Option::take)
            .ok_or_else(|| format!("{what} is file {place} of a message of {count} file(s), or was taken before"))
    });
    file.map_err(de::Error::custom)
}

/// Any open file as a value: a socket, a pipe, a file on a disk. It can be sent through a [`Pipe`](super::Pipe) or given to a
/// [`Process`](crate::Process), which then has a file of its own for the same thing; encoding it elsewhere is an error.
///
/// ```
/// use par_process::{Descriptor, Pipe};
/// use std::fs::File;
/// use std::io::Read;
///
/// let (near, far) = Pipe::duplex()?;
/// near.send(("null", Descriptor::from(File::open("/dev/null")?)))?;
/// let (name, file): (String, Descriptor) = far.recv()?;
/// let mut text = String::new();
/// File::from(file).read_to_string(&mut text)?;
/// assert_eq!((name.as_str(), text.as_str()), ("null", ""));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[doc(alias = "send_handle")]
#[doc(alias = "DupFd")]
pub struct Descriptor(OwnedFd);

impl<F: Into<OwnedFd>> From<F> for Descriptor {
    fn from(file: F) -> Self {
        Descriptor(file.into())
    }
}

impl From<Descriptor> for File {
    fn from(descriptor: Descriptor) -> Self {
        File::from(descriptor.0)
    }
}

impl Descriptor {
    /// The file.
    pub fn into_inner(self) -> OwnedFd {
        self.0
    }

    /// Another file of this process for the same thing.
    ///
    /// # Errors
    /// What the system says if it has no more files for this process.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Descriptor)
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for Descriptor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.as_fd(), "a Descriptor", serializer)
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize("a Descriptor", deserializer).map(Descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use par_core::wire;

    fn null() -> Descriptor {
        File::open("/dev/null").expect("a file of the system").into()
    }

    #[test]
    fn files_travel_beside_the_bytes_and_are_taken_once() {
        let (bytes, files) = lend(|| wire::to_bytes(&(null(), 7u8, null())));
        let bytes = bytes.expect("encodes");
        assert_eq!(files.len(), 2);
        with(files, || {
            let (_, seven, _): (Descriptor, u8, Descriptor) = wire::from_bytes(&bytes).expect("decodes");
            assert_eq!(seven, 7);
            let error = wire::from_bytes::<(Descriptor, u8, Descriptor)>(&bytes)
                .expect_err("taken")
                .to_string();
            assert!(error.contains("was taken before"), "{error}");
        });
    }

    #[test]
    fn elsewhere_a_file_is_an_error() {
        let error = wire::to_bytes(&null()).expect_err("no channel").to_string();
        assert!(
            error.contains("sent through a Pipe or given to a Process"),
            "{error}"
        );
        let (bytes, _files) = lend(|| wire::to_bytes(&null()).expect("encodes"));
        let error = wire::from_bytes::<Descriptor>(&bytes)
            .expect_err("no channel")
            .to_string();
        assert!(error.contains("received from a Pipe or by a Process"), "{error}");
        let (other, _) = lend(|| wire::to_bytes(&(1u64, 0u64)).expect("encodes"));
        let error = with(vec![null().into_inner()], || {
            wire::from_bytes::<Descriptor>(&other)
        });
        assert!(
            error
                .expect_err("no mark")
                .to_string()
                .contains("these bytes are none")
        );
    }

    #[test]
    fn a_message_has_a_bound_of_files() {
        let many: Vec<Descriptor> = (0..=MOST_FILES).map(|_| null()).collect();
        let (bytes, _) = lend(|| wire::to_bytes(&many));
        let error = bytes.expect_err("too many").to_string();
        assert!(error.contains("more than 128 files"), "{error}");
    }
}
