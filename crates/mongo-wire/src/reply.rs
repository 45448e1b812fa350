//! The third level: what a command's reply says, read one question at a time.
//!
//! Nothing is read ahead: each question walks over the reply's elements to the one it needs. A
//! batch, however large, is stepped over by its length. Where a key stands twice, the first counts.

mod batch;

use std::fmt;

use crate::{
    byte_str::ByteStr,
    document::Document,
    elements::{self, Element, Elements, Fault},
    error::{Defect, Field},
};

#[cfg(feature = "bson")]
pub use batch::BatchIter;
pub use batch::{Batch, BatchDocuments};

/// Why a reply cannot answer a question. Offsets count from the reply document's first byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The document is malformed at the element that was reached.
    #[error("reply malformed at byte {offset}: {defect}")]
    Malformed {
        /// Where it stands.
        offset: usize,
        /// What was expected and what stood there.
        defect: Defect,
    },
    /// The server left out a field that every such reply has.
    #[error("reply violates the protocol: expected a field {field:?}, found none")]
    Missing {
        /// The field's path.
        field: &'static str,
    },
    /// A field has a type it cannot have.
    #[error(
        "reply violates the protocol at byte {offset}: expected {expected} for {field:?}, \
         found BSON type {found:#04x}"
    )]
    WrongType {
        /// Where the value stands.
        offset: usize,
        /// The field's path.
        field: &'static str,
        /// The type it must have.
        expected: &'static str,
        /// The BSON type byte found.
        found: u8,
    },
}

impl From<Fault> for ReplyError {
    fn from(fault: Fault) -> Self {
        Self::Malformed {
            offset: fault.offset,
            defect: fault.defect,
        }
    }
}

/// The reader of a command's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandReply(Document);

impl CommandReply {
    /// Reads nothing yet.
    pub const fn new(reply: Document) -> Self {
        Self(reply)
    }

    /// The whole reply.
    pub const fn document(&self) -> &Document {
        &self.0
    }

    /// The whole reply, given away.
    pub fn into_document(self) -> Document {
        self.0
    }

    /// Whether the command succeeded: `ok` is a number other than zero, or true.
    ///
    /// # Errors
    /// When `ok` is missing or not a number, or the elements before it are malformed.
    pub fn is_ok(&self) -> Result<bool, ReplyError> {
        let ok = self
            .find("ok")?
            .ok_or(ReplyError::Missing { field: "ok" })?;
        truth(&ok).ok_or_else(|| wrong_type("ok", "a number", &ok, 0))
    }

    /// The error a failed command reports; `None` when `ok` is 1.
    ///
    /// # Errors
    /// As [`is_ok`](Self::is_ok), or when the elements that describe the error are malformed.
    /// Fields of unexpected types count as absent, so that an error is told all the same.
    pub fn server_error(&self) -> Result<Option<ServerError>, ReplyError> {
        if self.find("ok")?.is_none() && self.find("$err")?.is_some() {
            return self.describe(self.0.as_bytes(), 0).map(Some);
        }
        if self.is_ok()? {
            return Ok(None);
        }
        self.describe(self.0.as_bytes(), 0).map(Some)
    }

    /// The `writeConcernError` of a command that did its work but not as durably as was asked.
    /// Error labels are those of the reply.
    ///
    /// # Errors
    /// When the elements up to it, or it, are malformed.
    pub fn write_concern_error(&self) -> Result<Option<ServerError>, ReplyError> {
        match self.find("writeConcernError")? {
            Some(error) if error.kind == elements::DOCUMENT => {
                self.describe(error.value, error.offset).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The cursor and its batch, as slices of the reply.
    ///
    /// # Errors
    /// When `cursor`, or its `id`, `ns` or batch is missing or has the wrong type, or the elements
    /// around them are malformed. The batch's own elements are checked as they are iterated.
    pub fn cursor(&self) -> Result<CursorReply, ReplyError> {
        let cursor = self
            .find("cursor")?
            .ok_or(ReplyError::Missing { field: "cursor" })?;
        if cursor.kind != elements::DOCUMENT {
            return Err(wrong_type("cursor", "a document", &cursor, 0));
        }
        self.read_cursor(cursor.value, cursor.offset)
    }

    /// `$clusterTime`, to be sent back as it is. `None` also where it cannot be read: gossip is
    /// not worth failing a command for.
    pub fn cluster_time(&self) -> Option<Document> {
        let element = self.find("$clusterTime").ok().flatten()?;
        (element.kind == elements::DOCUMENT)
            .then(|| Document::within(self.0.shared(), element.value))
    }

    /// `operationTime`; `None` also where it cannot be read.
    #[cfg(feature = "bson")]
    pub fn operation_time(&self) -> Option<bson::Timestamp> {
        let element = self.find("operationTime").ok().flatten()?;
        if element.kind != elements::TIMESTAMP {
            return None;
        }
        let (increment, time) = element.value.split_first_chunk()?;
        Some(bson::Timestamp {
            time: u32::from_le_bytes(*time.first_chunk()?),
            increment: u32::from_le_bytes(*increment),
        })
    }

    fn find(&self, key: &str) -> Result<Option<Element<'_>>, ReplyError> {
        Ok(elements::find(self.0.as_bytes(), key)?)
    }

    fn read_cursor(&self, cursor: &[u8], base: usize) -> Result<CursorReply, ReplyError> {
        let (mut id, mut namespace, mut batch, mut token) = (None, None, None, None);
        for element in Elements::new(cursor) {
            let element = element.map_err(|fault| within(fault, base))?;
            match element.key {
                b"id" if id.is_none() => {
                    let value = integer(&element);
                    id = Some(
                        value.ok_or_else(|| wrong_type("cursor.id", "int64", &element, base))?,
                    );
                }
                b"ns" if namespace.is_none() => {
                    namespace = Some(self.text("cursor.ns", &element, base)?);
                }
                b"firstBatch" | b"nextBatch" if batch.is_none() => {
                    if element.kind != elements::ARRAY {
                        return Err(wrong_type("cursor batch", "an array", &element, base));
                    }
                    batch = Some(Batch::within(&self.0, element.value, base + element.offset));
                }
                b"postBatchResumeToken" if token.is_none() => {
                    if element.kind != elements::DOCUMENT {
                        let field = "cursor.postBatchResumeToken";
                        return Err(wrong_type(field, "a document", &element, base));
                    }
                    token = Some(Document::within(self.0.shared(), element.value));
                }
                _ => {}
            }
        }
        Ok(CursorReply {
            id: id.ok_or(ReplyError::Missing { field: "cursor.id" })?,
            namespace: namespace.ok_or(ReplyError::Missing { field: "cursor.ns" })?,
            batch: batch.ok_or(ReplyError::Missing {
                field: "cursor batch",
            })?,
            post_batch_resume_token: token,
        })
    }

    /// A string value as a slice of the reply.
    fn text(
        &self,
        field: &'static str,
        element: &Element<'_>,
        base: usize,
    ) -> Result<ByteStr, ReplyError> {
        if element.kind != elements::STRING {
            return Err(wrong_type(field, "a string", element, base));
        }
        let text = &element.value[4..element.value.len() - 1];
        match std::str::from_utf8(text) {
            Ok(text) => Ok(ByteStr::within(self.0.shared(), text)),
            Err(error) => {
                let found = text[error.valid_up_to()];
                let defect = Defect::NotUtf8 {
                    expected: Field::ElementValue,
                    found,
                };
                let offset = base + element.offset + 4 + error.valid_up_to();
                Err(ReplyError::Malformed { offset, defect })
            }
        }
    }

    /// Reads an error document that starts at `base` in the reply.
    fn describe(&self, error: &[u8], base: usize) -> Result<ServerError, ReplyError> {
        let mut described = ServerError {
            code: None,
            code_name: None,
            message: String::new(),
            labels: self.labels()?,
            reply: self.0.clone(),
        };
        for element in Elements::new(error) {
            let element = element.map_err(|fault| within(fault, base))?;
            match element.key {
                b"code" if described.code.is_none() => {
                    described.code = integer(&element).and_then(|code| i32::try_from(code).ok());
                }
                b"codeName" if described.code_name.is_none() => {
                    described.code_name = lossy(&element);
                }
                b"errmsg" | b"$err" if described.message.is_empty() => {
                    described.message = lossy(&element).unwrap_or_default();
                }
                _ => {}
            }
        }
        Ok(described)
    }

    fn labels(&self) -> Result<Vec<String>, ReplyError> {
        let Some(labels) = self.find("errorLabels")? else {
            return Ok(Vec::new());
        };
        if labels.kind != elements::ARRAY {
            return Ok(Vec::new());
        }
        Elements::new(labels.value)
            .filter_map(|label| match label {
                Ok(label) => lossy(&label).map(Ok),
                Err(fault) => Some(Err(within(fault, labels.offset))),
            })
            .collect()
    }
}

impl From<Document> for CommandReply {
    fn from(reply: Document) -> Self {
        Self(reply)
    }
}

/// An error that a server reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// `code`.
    pub code: Option<i32>,
    /// `codeName`.
    pub code_name: Option<String>,
    /// `errmsg`; empty when the server gave none.
    pub message: String,
    /// `errorLabels`.
    pub labels: Vec<String>,
    /// The whole reply.
    pub reply: Document,
}

impl ServerError {
    /// Whether the server put this label on the error.
    pub fn has_label(&self, label: &str) -> bool {
        self.labels.iter().any(|own| own == label)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = if self.message.is_empty() {
            "no message"
        } else {
            &self.message
        };
        match (self.code, &self.code_name) {
            (Some(code), Some(name)) => write!(f, "server error {code} ({name}): {message}"),
            (Some(code), None) => write!(f, "server error {code}: {message}"),
            (None, Some(name)) => write!(f, "server error {name}: {message}"),
            (None, None) => write!(f, "server error: {message}"),
        }
    }
}

impl std::error::Error for ServerError {}

/// The `cursor` of a reply to `aggregate`, `find`, `getMore`, ...
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorReply {
    /// The cursor's number; 0 when it is exhausted.
    pub id: i64,
    /// `ns`, as a slice of the reply.
    pub namespace: ByteStr,
    /// `firstBatch` or `nextBatch`.
    pub batch: Batch,
    /// Where a change stream stands after this batch, also when the batch is empty.
    pub post_batch_resume_token: Option<Document>,
}

fn within(fault: Fault, base: usize) -> ReplyError {
    ReplyError::Malformed {
        offset: base + fault.offset,
        defect: fault.defect,
    }
}

fn wrong_type(
    field: &'static str,
    expected: &'static str,
    element: &Element<'_>,
    base: usize,
) -> ReplyError {
    ReplyError::WrongType {
        offset: base + element.offset,
        field,
        expected,
        found: element.kind,
    }
}

/// What servers of all ages mean by `ok`.
fn truth(element: &Element<'_>) -> Option<bool> {
    match element.kind {
        elements::DOUBLE => Some(f64::from_le_bytes(*element.value.first_chunk()?) != 0.0),
        elements::BOOLEAN => Some(element.value != [0]),
        _ => integer(element).map(|number| number != 0),
    }
}

/// An integer of either size.
fn integer(element: &Element<'_>) -> Option<i64> {
    match element.kind {
        elements::INT32 => Some(i32::from_le_bytes(*element.value.first_chunk()?).into()),
        elements::INT64 => Some(i64::from_le_bytes(*element.value.first_chunk()?)),
        _ => None,
    }
}

/// Text for people: what is not UTF-8 is replaced.
fn lossy(element: &Element<'_>) -> Option<String> {
    if element.kind != elements::STRING {
        return None;
    }
    let text = &element.value[4..element.value.len() - 1];
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests;
