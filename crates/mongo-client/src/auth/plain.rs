//! PLAIN (RFC 4616): the password as it is, for a server that asks LDAP.

use bson::{RawDocument, RawDocumentBuf};
use mongo_uri::Credential;
use zeroize::Zeroizing;

use super::Step;
use super::failure::AuthFailure;
use super::sasl::{self, SaslReply};

/// The one message: no authorization identity, the user, the password.
pub(super) fn command(credential: &Credential) -> RawDocumentBuf {
    let user = credential.username.as_deref().unwrap_or_default();
    let password = credential.password.as_ref().map_or("", |p| p.expose());
    let message = Zeroizing::new([b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat());
    sasl::start("PLAIN", &message)
}

pub(super) fn handle(reply: &RawDocument) -> Result<Step, AuthFailure> {
    if SaslReply::parse(reply)?.done {
        Ok(Step::Done)
    } else {
        // There is nothing left to say.
        Err(AuthFailure::Malformed { field: "done" })
    }
}
