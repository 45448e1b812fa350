//! Resume tokens (change streams, "Exposing All Resume Tokens").

use std::fmt;

use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf};
use bytes::Bytes;
use mongo_wire::Document;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::StreamError;

/// A place in the stream of changes: an opaque document, bytes in and bytes out.
///
/// Cloning is cheap. A token taken from an event is a slice of the server's reply and keeps that
/// reply in memory; [`compact`](Self::compact) gives one that stands alone, for keeping.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeToken(Document);

impl ResumeToken {
    /// Takes the bytes of one BSON document, as [`as_bytes`](Self::as_bytes) gave them.
    ///
    /// # Errors
    /// [`StreamError::Misuse`] if they are not one BSON document.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, StreamError> {
        Document::from_bytes(bytes.into())
            .map(Self)
            .map_err(|error| StreamError::Misuse(format!("not a resume token: {error}")))
    }

    /// The token's bytes: one BSON document.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The token as a raw document.
    #[must_use]
    pub fn as_raw(&self) -> &RawDocument {
        self.0.as_raw()
    }

    /// A copy that keeps no reply in memory.
    #[must_use]
    pub fn compact(&self) -> Self {
        copy(self.as_raw())
    }

    /// The cluster time inside the token, where the token has the form servers have used since 4.0
    /// (`{_data: <hex string>}`, whose first value is a timestamp). For lag and for the people who
    /// watch it; nothing may depend on it, since tokens are opaque.
    #[must_use]
    pub fn cluster_time(&self) -> Option<bson::Timestamp> {
        // Keystring type byte of a timestamp, then seconds and increment, eight digits each.
        let Ok(Some(RawBsonRef::String(data))) = self.as_raw().get("_data") else {
            return None;
        };
        let digits = data.strip_prefix("82")?.get(..16)?;
        let value = digits.bytes().try_fold(0_u64, |value, digit| {
            Some(value << 4 | u64::from(char::from(digit).to_digit(16)?))
        })?;
        let [time, increment] = [value >> 32, value & u64::from(u32::MAX)]
            .map(|half| u32::try_from(half).expect("half of 64 bits"));
        Some(bson::Timestamp { time, increment })
    }
}

/// A token that stands alone, copied out of a reply.
pub(crate) fn copy(raw: &RawDocument) -> ResumeToken {
    ResumeToken(Document::from(raw))
}

impl From<Document> for ResumeToken {
    fn from(document: Document) -> Self {
        Self(document)
    }
}

impl From<RawDocumentBuf> for ResumeToken {
    fn from(document: RawDocumentBuf) -> Self {
        Self(Document::from(document))
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match bson::Document::try_from(self.as_raw()) {
            Ok(document) => write!(f, "ResumeToken({document})"),
            Err(_) => write!(f, "ResumeToken({} bytes)", self.as_bytes().len()),
        }
    }
}

/// As a document.
impl Serialize for ResumeToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_raw().serialize(serializer)
    }
}

/// From a document.
impl<'de> Deserialize<'de> for ResumeToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawDocumentBuf::deserialize(deserializer).map(Self::from)
    }
}
