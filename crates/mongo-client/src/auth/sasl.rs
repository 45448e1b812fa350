//! The commands that carry SASL messages (Authentication specification, "SASL Mechanisms").

use bson::spec::BinarySubtype;
use bson::{Binary, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::failure::AuthFailure;

/// `saslStart` with the client's first message.
pub(super) fn start(mechanism: &str, payload: &[u8]) -> RawDocumentBuf {
    rawdoc! { "saslStart": 1, "mechanism": mechanism, "payload": binary(payload) }
}

/// `saslContinue` with a later one.
pub(super) fn go_on(conversation: i32, payload: &[u8]) -> RawDocumentBuf {
    rawdoc! { "saslContinue": 1, "conversationId": conversation, "payload": binary(payload) }
}

/// A value of binary data without a subtype.
pub(super) fn binary(payload: &[u8]) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: payload.to_vec(),
    }
}

/// What a reply to either carries.
#[derive(Debug)]
pub(super) struct SaslReply<'a> {
    pub(super) conversation: i32,
    pub(super) done: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> SaslReply<'a> {
    pub(super) fn parse(reply: &'a RawDocument) -> Result<Self, AuthFailure> {
        let field = |field| {
            let value = reply.get(field).ok().flatten();
            value.ok_or(AuthFailure::Malformed { field })
        };
        let RawBsonRef::Int32(conversation) = field("conversationId")? else {
            return Err(malformed("conversationId"));
        };
        let RawBsonRef::Boolean(done) = field("done")? else {
            return Err(malformed("done"));
        };
        let payload = match field("payload")? {
            RawBsonRef::Binary(binary) => binary.bytes,
            RawBsonRef::String(text) => text.as_bytes(),
            _ => return Err(malformed("payload")),
        };
        Ok(Self {
            conversation,
            done,
            payload,
        })
    }
}

fn malformed(field: &'static str) -> AuthFailure {
    AuthFailure::Malformed { field }
}
