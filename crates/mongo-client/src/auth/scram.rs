//! SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802, RFC 7677), as the Authentication specification bends
//! them: the user name is never prepared, SHA-1 takes an MD5 digest in the password's place.

mod keys;
mod message;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::{RawDocument, RawDocumentBuf, cstr, rawdoc};
use zeroize::Zeroizing;

pub(crate) use self::keys::{Derivation, DerivedKeys, ScramKeys};
use self::message::ServerFirst;
use super::Step;
use super::failure::{AuthFailure, ScramFault};
use super::sasl::{self, SaslReply};

/// The least iteration count that is taken; fewer would help whoever wants to guess the password.
const MIN_ITERATIONS: u32 = 4096;

/// The greatest; more would take longer than any time-out. Servers use 10,000 and 15,000.
const MAX_ITERATIONS: u32 = 10_000_000;

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    fn mechanism(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha256 => "SCRAM-SHA-256",
        }
    }

    /// What the mechanism takes for the password.
    ///
    /// # Errors
    /// [`AuthFailure::ForbiddenPassword`] where SASLprep refuses it.
    pub(crate) fn password(
        self,
        user: &str,
        password: &str,
    ) -> Result<Zeroizing<String>, AuthFailure> {
        match self {
            Self::Sha1 => Ok(keys::mongo_digest(user, password)),
            Self::Sha256 => stringprep::saslprep(password)
                .map(|prepared| Zeroizing::new(prepared.into_owned()))
                .map_err(|_| AuthFailure::ForbiddenPassword),
        }
    }
}

/// The client's side of one exchange.
///
/// ```text
/// Began --server's first--> Deriving --keys--> Proving --server's final--> Proved
///
/// Any --whatever breaks the rules--> Broken
/// ```
pub(crate) struct Scram {
    hash: Hash,
    password: Zeroizing<String>,
    nonce: String,
    first_bare: String,
    state: State,
}

enum State {
    Began,
    /// The server's message and how it was written, which both signatures cover.
    Deriving {
        conversation: i32,
        server: ServerFirst,
        written: String,
    },
    Proving {
        keys: DerivedKeys,
        auth_message: String,
    },
    /// Servers before 4.4 want one more message, an empty one.
    Proved {
        keys: DerivedKeys,
    },
    Broken,
}

impl Scram {
    pub(super) fn new(hash: Hash, user: &str, password: Zeroizing<String>, nonce: String) -> Self {
        Self {
            hash,
            password,
            first_bare: message::client_first_bare(user, &nonce),
            nonce,
            state: State::Began,
        }
    }

    pub(super) fn first_command(&self) -> RawDocumentBuf {
        // No channel binding and no authorization identity.
        let payload = format!("n,,{}", self.first_bare);
        let mut command = sasl::start(self.hash.mechanism(), payload.as_bytes());
        command.append(cstr!("options"), rawdoc! { "skipEmptyExchange": true });
        command
    }

    pub(super) fn handle(&mut self, reply: &RawDocument) -> Result<Step, AuthFailure> {
        let reply = SaslReply::parse(reply)?;
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Began => self.server_first(&reply),
            State::Proving { keys, auth_message } => self.server_final(&reply, keys, &auth_message),
            State::Proved { keys } if reply.done => {
                self.state = State::Proved { keys };
                Ok(Step::Done)
            }
            _ => Err(ScramFault::Endless.into()),
        }
    }

    /// The keys, once the server has proved that they are right.
    pub(super) fn proved(&self) -> Option<&DerivedKeys> {
        match &self.state {
            State::Proved { keys } => Some(keys),
            _ => None,
        }
    }

    fn server_first(&mut self, reply: &SaslReply<'_>) -> Result<Step, AuthFailure> {
        if reply.done {
            // Nobody has proved anything yet.
            return Err(ScramFault::ServerSignature.into());
        }
        let written = message::text(reply.payload)?;
        let server = ServerFirst::parse(written)?;
        if server.nonce.len() <= self.nonce.len() || !server.nonce.starts_with(&self.nonce) {
            return Err(ScramFault::Nonce.into());
        }
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&server.iterations) {
            return Err(AuthFailure::Scram(ScramFault::Iterations {
                found: server.iterations,
                minimum: MIN_ITERATIONS,
                maximum: MAX_ITERATIONS,
            }));
        }
        let derivation = Derivation {
            of: server.derivation_of(self.hash),
            password: self.password.clone(),
        };
        self.state = State::Deriving {
            conversation: reply.conversation,
            server,
            written: written.to_owned(),
        };
        Ok(Step::Derive(derivation))
    }

    /// Proves that we know the password.
    pub(super) fn derived(&mut self, keys: DerivedKeys) -> Result<Step, AuthFailure> {
        let state = std::mem::replace(&mut self.state, State::Broken);
        let State::Deriving {
            conversation,
            server,
            written,
        } = state
        else {
            return Err(ScramFault::Endless.into());
        };
        // `biws` is the base64 of `n,,`.
        let without_proof = format!("c=biws,r={}", server.nonce);
        let auth_message = format!("{},{written},{without_proof}", self.first_bare);
        let proof = BASE64.encode(keys.client_proof(auth_message.as_bytes()));
        let payload = format!("{without_proof},p={proof}");
        self.state = State::Proving { keys, auth_message };
        Ok(Step::Send(sasl::go_on(conversation, payload.as_bytes())))
    }

    /// Makes the server prove it too.
    fn server_final(
        &mut self,
        reply: &SaslReply<'_>,
        keys: DerivedKeys,
        auth_message: &str,
    ) -> Result<Step, AuthFailure> {
        let signature = message::server_signature(message::text(reply.payload)?)?;
        if !keys.is_server_signature(auth_message.as_bytes(), &signature) {
            return Err(ScramFault::ServerSignature.into());
        }
        self.state = State::Proved { keys };
        if reply.done {
            return Ok(Step::Done);
        }
        Ok(Step::Send(sasl::go_on(reply.conversation, b"")))
    }
}

/// Neither password nor proof.
impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Began => "Began",
            State::Deriving { .. } => "Deriving",
            State::Proving { .. } => "Proving",
            State::Proved { .. } => "Proved",
            State::Broken => "Broken",
        };
        f.debug_struct("Scram")
            .field("hash", &self.hash)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
