//! MONGODB-AWS: the client signs a request to AWS that asks who it is, the server sends it there
//! and hears the answer (Authentication specification, "MONGODB-AWS").
//!
//! The secret key signs here and is sent nowhere.

mod credentials;
mod signature;

use std::fmt;

use bson::{DateTime, RawDocument, RawDocumentBuf, cstr, rawdoc};

pub use self::credentials::AwsCredentials;
pub(crate) use self::credentials::{CredentialCache, Expiring, Source};
use self::signature::Request;
use super::failure::{AuthFailure, AwsFault};
use super::sasl::{self, SaslReply};
use super::{Nonce, Step};

/// The letter `n`: no channel binding, as a client's first message says it.
const NO_CHANNEL_BINDING: i32 = 110;

/// Bytes of a server's nonce; the first of them are the client's.
const SERVER_NONCE_LEN: usize = 64;

/// The longest name of a host (RFC 1035).
const MAX_HOST_LEN: usize = 255;

/// The region of a host that names none.
const DEFAULT_REGION: &str = "us-east-1";

/// The client's side of one exchange.
///
/// ```text
/// Began --server's first--> Challenged --credentials, time--> Signed
///
/// Any --whatever breaks the rules--> Broken
/// ```
pub(super) struct Aws {
    nonce: Nonce,
    state: State,
}

enum State {
    Began,
    Challenged {
        conversation: i32,
        nonce: Vec<u8>,
        host: String,
    },
    Signed,
    Broken,
}

impl Aws {
    pub(super) fn new(nonce: Nonce) -> Self {
        let state = State::Began;
        Self { nonce, state }
    }

    pub(super) fn first_command(&self) -> RawDocumentBuf {
        let message = rawdoc! { "r": sasl::binary(&self.nonce.0), "p": NO_CHANNEL_BINDING };
        sasl::start("MONGODB-AWS", message.as_bytes())
    }

    pub(super) fn handle(&mut self, reply: &RawDocument) -> Result<Step, AuthFailure> {
        let reply = SaslReply::parse(reply)?;
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Began if !reply.done => self.challenged(&reply),
            State::Signed if reply.done => Ok(Step::Done),
            _ => Err(AuthFailure::Malformed { field: "done" }),
        }
    }

    fn challenged(&mut self, reply: &SaslReply<'_>) -> Result<Step, AuthFailure> {
        let malformed = |field| AuthFailure::Malformed { field };
        let message = RawDocument::from_bytes(reply.payload).map_err(|_| malformed("payload"))?;
        let nonce = message.get_binary("s").map_err(|_| malformed("s"))?.bytes;
        if nonce.len() != SERVER_NONCE_LEN || !nonce.starts_with(&self.nonce.0) {
            return Err(AwsFault::Nonce.into());
        }
        let host = message.get_str("h").map_err(|_| malformed("h"))?;
        if !is_host(host) {
            return Err(AwsFault::Host.into());
        }
        self.state = State::Challenged {
            conversation: reply.conversation,
            nonce: nonce.to_vec(),
            host: host.to_owned(),
        };
        Ok(Step::Identify)
    }

    /// Answers the server's challenge as whoever the credentials stand for.
    pub(super) fn identified(
        &mut self,
        credentials: &AwsCredentials,
        now: DateTime,
    ) -> Result<Step, AuthFailure> {
        let state = std::mem::replace(&mut self.state, State::Broken);
        let State::Challenged {
            conversation,
            nonce,
            host,
        } = state
        else {
            return Err(AuthFailure::Malformed { field: "payload" });
        };
        let date = signature::date(now);
        let request = Request {
            host: &host,
            region: region(&host),
            nonce: &nonce,
            date: &date,
        };
        let mut message = rawdoc! {
            "a": signature::authorization(&request, credentials),
            "d": date.as_str(),
        };
        if let Some(token) = &credentials.session_token {
            message.append(cstr!("t"), token.expose());
        }
        self.state = State::Signed;
        Ok(Step::Send(sasl::go_on(conversation, message.as_bytes())))
    }
}

/// What the specification takes for the name of AWS's Security Token Service.
fn is_host(host: &str) -> bool {
    host.len() <= MAX_HOST_LEN
        && host.split('.').all(|label| !label.is_empty())
        // The name goes into a request that is signed, as a line of its own.
        && host.bytes().all(|byte| byte.is_ascii_graphic())
}

/// "Region Calculation": the second label of a valid host.
fn region(host: &str) -> &str {
    match host.split('.').nth(1) {
        Some(label) if host != "sts.amazonaws.com" => label,
        _ => DEFAULT_REGION,
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Began => "Aws(Began)",
            State::Challenged { .. } => "Aws(Challenged)",
            State::Signed => "Aws(Signed)",
            State::Broken => "Aws(Broken)",
        })
    }
}

#[cfg(test)]
mod tests;
