//! The key of a manager, and how both sides prove to each other that they have it.
//!
//! 1. The manager speaks first: 32 random bytes. The client answers with 32 random bytes of its own, the number of its session, and
//!    the HMAC-SHA256 under the key of its role's name and all of these. The manager answers with that under the name of its role.
//! 2. Neither says anything else before the other's proof has been checked, in constant time. The key itself never crosses.
//! 3. What comes before that is bounded in length and time.
//!
//! It proves who speaks; it hides nothing: over TCP, others on the way can read and change what follows.

use super::address::Stream;
use super::{Address, ManagerError};
use hmac::{Hmac, KeyInit, Mac};
use par_core::wire::{self, WireError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::time::Duration;

/// Kinds of frames.
const CHALLENGE: u8 = 1;
const PROOF: u8 = 2;
const WELCOME: u8 = 3;
const REFUSED: u8 = 4;

/// The longest frame before the proofs.
const LONGEST: u64 = 256;
/// Each side waits so long for the other.
const PATIENCE: Duration = Duration::from_secs(10);

const CLIENT: &[u8] = b"par-process manager: client";
const MANAGER: &[u8] = b"par-process manager: manager";

type Nonce = [u8; 32];

/// The secret that a manager shares with its clients. Made from any bytes, or at random.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[doc(alias = "authkey")]
pub struct Key([u8; 32]);

impl Key {
    /// A key that nobody can guess.
    ///
    /// # Errors
    /// What the system says if it has no random numbers.
    pub fn random() -> io::Result<Self> {
        random().map(Key)
    }
}

impl From<&[u8]> for Key {
    /// The key for a secret of any length.
    fn from(secret: &[u8]) -> Self {
        Key(Sha256::digest(secret).into())
    }
}

impl From<&str> for Key {
    /// The key for a secret text.
    fn from(secret: &str) -> Self {
        secret.as_bytes().into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

fn proof(key: &Key, role: &[u8], theirs: &Nonce, ours: &Nonce, session: u128) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&key.0).unwrap_or_else(|_| unreachable!("a key may have any length"));
    mac.update(role);
    mac.update(theirs);
    mac.update(ours);
    mac.update(&session.to_le_bytes());
    mac
}

fn receive(mut stream: &Stream) -> Result<(u8, Vec<u8>), WireError> {
    let mut payload = Vec::new();
    match wire::read_frame(&mut stream, LONGEST, &mut payload)? {
        Some(kind) => Ok((kind, payload)),
        None => Err(WireError::Io(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The manager's side: the session of a client that has the key, and the proof that is to be sent to it.
pub(super) fn admit(mut stream: &Stream, key: &Key) -> Result<(u128, Proof), WireError> {
    stream.set_timeout(Some(PATIENCE))?;
    let ours: Nonce = random()?;
    wire::write_frame(&mut stream, CHALLENGE, &ours)?;
    let (kind, payload) = receive(stream)?;
    let (theirs, session, mac) =
        read_proof(kind, &payload).ok_or(WireError::Malformed("no proof of a key"))?;
    if proof(key, CLIENT, &ours, &theirs, session)
        .verify_slice(mac)
        .is_err()
    {
        wire::write_frame(&mut stream, REFUSED, b"")?;
        return Err(WireError::Malformed("the proof is of another key"));
    }
    let answer = proof(key, MANAGER, &ours, &theirs, session)
        .finalize()
        .into_bytes();
    Ok((session, Proof(answer.into())))
}

/// The manager's proof.
pub(super) struct Proof([u8; 32]);

/// Lets the client in: from here on it may believe that the manager knows of its connection.
pub(super) fn welcome(mut stream: &Stream, proof: &Proof) -> Result<(), WireError> {
    wire::write_frame(&mut stream, WELCOME, &proof.0)?;
    Ok(stream.set_timeout(None)?)
}

fn read_proof(kind: u8, payload: &[u8]) -> Option<(Nonce, u128, &[u8])> {
    let (theirs, rest) = payload.split_first_chunk()?;
    let (session, mac) = rest.split_first_chunk()?;
    (kind == PROOF).then(|| (*theirs, u128::from_le_bytes(*session), mac))
}

/// The client's side.
pub(super) fn present(
    mut stream: &Stream,
    key: &Key,
    session: u128,
    address: &Address,
    patience: Duration,
) -> Result<(), ManagerError> {
    let strange = |reason: &str| ManagerError::Gone {
        address: address.clone(),
        reason: reason.to_owned(),
    };
    let broken = |error: WireError| match &error {
        WireError::Io(cause)
            if matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
        {
            ManagerError::TimedOut
        }
        WireError::Io(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
            strange("it has closed the connection")
        }
        _ => strange(&error.to_string()),
    };
    stream.set_timeout(Some(patience.clamp(Duration::from_millis(1), PATIENCE)))?;
    let (kind, payload) = receive(stream).map_err(broken)?;
    let theirs: Nonce = match (kind, payload.try_into()) {
        (CHALLENGE, Ok(nonce)) => nonce,
        _ => return Err(strange("who listens there is no manager")),
    };
    let ours: Nonce = random()?;
    let mut answer = ours.to_vec();
    answer.extend_from_slice(&session.to_le_bytes());
    answer.extend_from_slice(
        &proof(key, CLIENT, &theirs, &ours, session)
            .finalize()
            .into_bytes(),
    );
    wire::write_frame(&mut stream, PROOF, &answer).map_err(broken)?;
    let (kind, payload) = receive(stream).map_err(broken)?;
    let known = proof(key, MANAGER, &theirs, &ours, session)
        .verify_slice(&payload)
        .is_ok();
    match kind {
        WELCOME if known => Ok(stream.set_timeout(None)?),
        WELCOME | REFUSED => Err(ManagerError::WrongKey(address.clone())),
        _ => Err(strange("who listens there is no manager")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Stream, Stream) {
        let (one, other) = UnixStream::pair().expect("sockets");
        (Stream::Unix(one), Stream::Unix(other))
    }

    fn meet(server: &Key, client: &Key) -> (Result<u128, WireError>, Result<(), ManagerError>) {
        let (near, far) = pair();
        std::thread::scope(|scope| {
            let admitted = scope.spawn(move || {
                let (session, proof) = admit(&far, server)?;
                welcome(&far, &proof).map(|()| session)
            });
            let presented = present(&near, client, 7, &Address::Unix("test".to_owned()), PATIENCE);
            (admitted.join().expect("no panic"), presented)
        })
    }

    #[test]
    fn who_has_the_key_is_let_in_and_nobody_else() {
        let key = Key::from("secret");
        let (admitted, presented) = meet(&key, &key);
        assert_eq!(admitted.expect("let in"), 7);
        presented.expect("let in");
        let (admitted, presented) = meet(&key, &Key::from("other"));
        assert!(admitted.is_err());
        let text = presented.expect_err("refused").to_string();
        assert_eq!(text, "the manager at unix:test has another key");
        assert_eq!(format!("{key:?}"), "Key(..)");
        assert!(Key::random().expect("random") != Key::random().expect("random"));
    }

    #[test]
    fn an_impostor_is_not_believed() {
        let (near, mut_far) = pair();
        let key = Key::from("secret");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut far = &mut_far;
                wire::write_frame(&mut far, CHALLENGE, &[1; 32]).expect("sent");
                receive(far).expect("a proof");
                wire::write_frame(&mut far, WELCOME, &[2; 32]).expect("sent");
            });
            let error = present(&near, &key, 7, &Address::Unix("test".to_owned()), PATIENCE);
            assert!(matches!(error, Err(ManagerError::WrongKey(_))), "{error:?}");
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn hostile_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), framed in any::<bool>()) {
            let send = |stream: &Stream| {
                let mut stream = stream;
                // The other side may have closed it after the first bytes.
                if framed {
                    let _ = wire::write_frame(&mut stream, PROOF, &bytes);
                } else {
                    let _ = stream.write_all(&bytes);
                }
            };
            let (near, far) = pair();
            send(&near);
            if let Stream::Unix(near) = &near {
                near.shutdown(std::net::Shutdown::Write).expect("open");
            }
            prop_assert!(admit(&far, &Key::from("secret")).is_err());
            let (near, far) = pair();
            send(&far);
            drop(far);
            prop_assert!(present(&near, &Key::from("secret"), 1, &Address::Unix("x".to_owned()), PATIENCE).is_err());
        }
    }
}
