//! The texts of the exchange (RFC 5802, section 7).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Hash;
use super::keys::KeyId;
use crate::auth::failure::{AuthFailure, ScramFault};

/// `client-first-message-bare`.
pub(super) fn client_first_bare(user: &str, nonce: &str) -> String {
    let user = user.replace('=', "=3D").replace(',', "=2C");
    format!("n={user},r={nonce}")
}

/// A message as text.
pub(super) fn text(payload: &[u8]) -> Result<&str, AuthFailure> {
    std::str::from_utf8(payload).map_err(|_| malformed("UTF-8"))
}

/// `server-first-message`.
#[derive(Debug)]
pub(super) struct ServerFirst {
    pub(super) nonce: String,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl ServerFirst {
    /// Reads `r=nonce,s=salt,i=count`; extensions may follow, but none that has to be understood.
    pub(super) fn parse(message: &str) -> Result<Self, AuthFailure> {
        let mut attributes = message.split(',');
        let mut attribute = |prefix, expected| {
            let next = attributes.next().unwrap_or_default();
            let value = next.strip_prefix(prefix).filter(|value| !value.is_empty());
            value.ok_or_else(|| refused(next).unwrap_or_else(|| malformed(expected)))
        };
        let nonce = attribute("r=", "r=nonce")?.to_owned();
        let salt = attribute("s=", "s=salt")?;
        let salt = BASE64.decode(salt).map_err(|_| malformed("base64"))?;
        let iterations = attribute("i=", "i=count")?;
        let digits = iterations.bytes().all(|byte| byte.is_ascii_digit());
        let iterations = iterations.parse().ok().filter(|_| digits);
        Ok(Self {
            nonce,
            salt,
            iterations: iterations.ok_or_else(|| malformed("i=count"))?,
        })
    }

    /// Names the keys that the password gives with this salt and count.
    pub(super) fn derivation_of(&self, hash: Hash) -> KeyId {
        KeyId {
            hash,
            salt: self.salt.clone(),
            iterations: self.iterations,
        }
    }
}

/// The signature in `server-final-message`.
pub(super) fn server_signature(message: &str) -> Result<Vec<u8>, AuthFailure> {
    let first = message.split(',').next().unwrap_or_default();
    if let Some(error) = refused(first) {
        return Err(error);
    }
    let signature = first
        .strip_prefix("v=")
        .ok_or(ScramFault::ServerSignature)?;
    let signature = BASE64.decode(signature);
    signature.map_err(|_| ScramFault::ServerSignature.into())
}

/// The server's `e=error` or `m=extension`, neither of which lets the exchange go on.
fn refused(attribute: &str) -> Option<AuthFailure> {
    match attribute.split_at_checked(2)? {
        ("e=", error) => Some(ScramFault::Server(error.to_owned()).into()),
        ("m=", _) => Some(malformed("no mandatory extension")),
        _ => None,
    }
}

fn malformed(expected: &'static str) -> AuthFailure {
    ScramFault::Malformed { expected }.into()
}
