//! From the password to keys, and what is signed with them (RFC 5802, section 3).

use std::collections::VecDeque;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Hash;

/// How many keys a client keeps. All members of a replica set share a user's salt, so that one is
/// the usual number; each change of the password brings another.
const MAX_KEPT: usize = 16;

/// What keys depend on, besides the password, of which a client has only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyId {
    pub(super) hash: Hash,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

/// `ClientKey` and `ServerKey`.
#[derive(Clone)]
pub(crate) struct DerivedKeys {
    of: KeyId,
    client: Zeroizing<Vec<u8>>,
    server: Zeroizing<Vec<u8>>,
}

impl DerivedKeys {
    /// `ClientProof` for an exchange.
    pub(super) fn client_proof(&self, auth_message: &[u8]) -> Vec<u8> {
        let stored = self.of.hash.digest(&self.client);
        let signature = self.of.hash.hmac(&stored, auth_message);
        let pairs = self.client.iter().zip(signature.iter());
        pairs.map(|(key, sign)| key ^ sign).collect()
    }

    /// Compares in constant time.
    pub(super) fn is_server_signature(&self, auth_message: &[u8], signature: &[u8]) -> bool {
        match self.of.hash {
            Hash::Sha1 => verify::<Hmac<Sha1>>(&self.server, auth_message, signature),
            Hash::Sha256 => verify::<Hmac<Sha256>>(&self.server, auth_message, signature),
        }
    }
}

impl fmt::Debug for DerivedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DerivedKeys({:?})", self.of.hash)
    }
}

/// The slow part: thousands of hashes, done where it holds nobody up.
pub(crate) struct Derivation {
    pub(super) of: KeyId,
    pub(super) password: Zeroizing<String>,
}

impl Derivation {
    /// Takes milliseconds.
    pub(crate) fn run(self) -> DerivedKeys {
        let Self { of, password } = self;
        let salted = of.hash.salted(password.as_bytes(), &of.salt, of.iterations);
        DerivedKeys {
            client: of.hash.hmac(&salted, b"Client Key"),
            server: of.hash.hmac(&salted, b"Server Key"),
            of,
        }
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Derivation({:?})", self.of)
    }
}

/// The keys of a client that have proved to be right.
#[derive(Debug, Default)]
pub(crate) struct ScramKeys(VecDeque<DerivedKeys>);

impl ScramKeys {
    /// What the derivation would give, if that is known.
    pub(crate) fn find(&self, derivation: &Derivation) -> Option<DerivedKeys> {
        let known = |keys: &&DerivedKeys| keys.of == derivation.of;
        self.0.iter().find(known).cloned()
    }

    /// Keeps keys, in the place of the oldest when there are too many.
    pub(crate) fn keep(&mut self, keys: DerivedKeys) {
        if self.0.iter().any(|known| known.of == keys.of) {
            return;
        }
        if self.0.len() == MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(keys);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Hash {
    /// `Hi`.
    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Sha1 => stretched::<Hmac<Sha1>>(password, salt, iterations),
            Self::Sha256 => stretched::<Hmac<Sha256>>(password, salt, iterations),
        }
    }

    /// `HMAC`.
    pub(in crate::auth) fn hmac(self, key: &[u8], message: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Sha1 => mac::<Hmac<Sha1>>(key, message)
                .finalize()
                .into_bytes()
                .to_vec(),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, message)
                .finalize()
                .into_bytes()
                .to_vec(),
        })
    }

    /// `H`.
    pub(in crate::auth) fn digest(self, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Sha1 => Sha1::digest(bytes).to_vec(),
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
        })
    }
}

/// The first block of PBKDF2, which is all that SCRAM takes.
fn stretched<M: Mac + KeyInit + Clone>(
    password: &[u8],
    salt: &[u8],
    iterations: u32,
) -> Zeroizing<Vec<u8>> {
    let keyed: M = mac(password, &[]);
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&1_u32.to_be_bytes());
    let mut last = first.finalize().into_bytes();
    let mut sum = Zeroizing::new(last.to_vec());
    for _ in 1..iterations {
        let mut next = keyed.clone();
        next.update(&last);
        last = next.finalize().into_bytes();
        for (sum, byte) in sum.iter_mut().zip(&last) {
            *sum ^= byte;
        }
    }
    sum
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> M {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac
}

fn verify<M: Mac + KeyInit>(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    mac::<M>(key, message).verify_slice(signature).is_ok()
}

/// What SCRAM-SHA-1 takes for the password: an MD5 digest in hexadecimal, as users of MongoDB
/// before SCRAM have it stored. Nothing is prepared by SASLprep.
pub(super) fn mongo_digest(user: &str, password: &str) -> Zeroizing<String> {
    let mut digest = Md5::new();
    for part in [user, ":mongo:", password] {
        digest.update(part.as_bytes());
    }
    let mut text = Zeroizing::new(String::with_capacity(32));
    for byte in digest.finalize() {
        for digit in [byte >> 4, byte & 0xf] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text
}
