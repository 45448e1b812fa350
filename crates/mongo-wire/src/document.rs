//! BSON documents as slices of a message.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::{
    elements::{self, Elements},
    error::{DecodeError, Defect},
    parse,
};

/// One BSON document, held as the bytes it came in.
///
/// What is checked when it is made: the length prefix equals the number of bytes and the last
/// byte is zero. The elements inside are not looked at until somebody asks for one.
/// A clone shares the bytes. `Debug` prints the length only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Document(Bytes);

impl Document {
    /// Takes over bytes that are exactly one document.
    ///
    /// # Errors
    /// When the length prefix differs from the number of bytes or the last byte is not zero.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, DecodeError> {
        let bytes = bytes.into();
        let (rest, _) =
            parse::document(&bytes, usize::MAX).map_err(|error| parse::locate(error, &bytes, 0))?;
        if rest.is_empty() {
            return Ok(Self(bytes));
        }
        let defect = Defect::TrailingBytes { found: rest.len() };
        Err(DecodeError::Malformed {
            offset: bytes.len() - rest.len(),
            defect,
        })
    }

    /// Copies a slice that is exactly one document.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), before anything is copied.
    pub fn copy_from_slice(slice: &[u8]) -> Result<Self, DecodeError> {
        let (rest, document) =
            parse::document(slice, usize::MAX).map_err(|error| parse::locate(error, slice, 0))?;
        if rest.is_empty() {
            return Ok(Self(Bytes::copy_from_slice(document)));
        }
        let defect = Defect::TrailingBytes { found: rest.len() };
        Err(DecodeError::Malformed {
            offset: document.len(),
            defect,
        })
    }

    /// The document without elements.
    pub const fn empty() -> Self {
        Self(Bytes::from_static(b"\x05\0\0\0\0"))
    }

    /// `part` must be a checked document within `whole`.
    #[inline]
    pub(crate) fn within(whole: &Bytes, part: &[u8]) -> Self {
        Self(whole.slice_ref(part))
    }

    /// A copy that no longer keeps the message's buffer alive: for a small document that is kept
    /// long, such as a resume token cut from a large batch.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The whole document, length prefix and closing zero included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    pub(crate) const fn shared(&self) -> &Bytes {
        &self.0
    }

    /// Number of bytes, at least 5.
    #[expect(
        clippy::len_without_is_empty,
        reason = "bytes are meant, and there are always some"
    )]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no element.
    pub const fn is_empty_document(&self) -> bool {
        self.0.len() == elements::MIN_DOCUMENT_LEN
    }

    /// The key of the first element, which in a command's body is the command's name. `None` if
    /// there is no element or the key is not readable text.
    pub fn first_key(&self) -> Option<&str> {
        let element = Elements::new(&self.0).next()?.ok()?;
        std::str::from_utf8(element.key).ok()
    }

    /// Whether an element with this key stands at the top level.
    ///
    /// # Errors
    /// When an element before it is malformed.
    pub fn contains_key(&self, key: &str) -> Result<bool, DecodeError> {
        Ok(self.find(key)?.is_some())
    }

    /// The document under a key, as a slice of the same buffer; `None` if there is none or it is
    /// something else.
    ///
    /// # Errors
    /// When an element up to it is malformed.
    pub fn embedded(&self, key: &str) -> Result<Option<Self>, DecodeError> {
        let element = self
            .find(key)?
            .filter(|element| element.kind == elements::DOCUMENT);
        Ok(element.map(|element| Self::within(&self.0, element.value)))
    }

    /// The elements as they lie here: the key of each, and all of its bytes, type and key included.
    /// After an error the iteration ends.
    ///
    /// # Errors
    /// When an element is malformed.
    pub fn pieces(&self) -> impl Iterator<Item = Result<(&[u8], &[u8]), DecodeError>> {
        Elements::new(&self.0).map(|element| {
            let element = element.map_err(malformed)?;
            // The type stands before the key, a zero between key and value.
            let start = element.offset - element.key.len() - 2;
            let end = element.offset + element.value.len();
            Ok((element.key, &self.0[start..end]))
        })
    }

    fn find(&self, key: &str) -> Result<Option<elements::Element<'_>>, DecodeError> {
        elements::find(&self.0, key).map_err(malformed)
    }
}

fn malformed(fault: elements::Fault) -> DecodeError {
    let (offset, defect) = (fault.offset, fault.defect);
    DecodeError::Malformed { offset, defect }
}

#[cfg(feature = "bson")]
impl Document {
    /// The raw view, without a copy.
    pub fn as_raw(&self) -> &bson::RawDocument {
        bson::RawDocument::from_bytes(&self.0).expect("length and closing zero were checked")
    }

    /// A copy that owns its bytes.
    pub fn to_raw_document_buf(&self) -> bson::RawDocumentBuf {
        self.as_raw().to_owned()
    }

    /// A view found inside this document, as a slice of the same buffer: what keeps one field of
    /// a reply alive without copying it. `None` if the view lies elsewhere in memory.
    pub fn share(&self, part: &bson::RawDocument) -> Option<Self> {
        let part = part.as_bytes();
        let start = part.as_ptr().addr().checked_sub(self.0.as_ptr().addr())?;
        let end = start.checked_add(part.len())?;
        (end <= self.0.len()).then(|| Self(self.0.slice(start..end)))
    }
}

#[cfg(feature = "bson")]
impl From<bson::RawDocumentBuf> for Document {
    fn from(document: bson::RawDocumentBuf) -> Self {
        Self(Bytes::from(document.into_bytes()))
    }
}

#[cfg(feature = "bson")]
impl From<&bson::RawDocument> for Document {
    fn from(document: &bson::RawDocument) -> Self {
        Self(Bytes::copy_from_slice(document.as_bytes()))
    }
}

impl AsRef<[u8]> for Document {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Bytes> for Document {
    type Error = DecodeError;

    fn try_from(bytes: Bytes) -> Result<Self, DecodeError> {
        Self::from_bytes(bytes)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes)", self.0.len())
    }
}

/// Documents that stand one after the other, without an array around them.
///
/// In a message that was decoded, only the outer bounds are checked; each document's length is
/// checked when the iteration reaches it. A list made here holds whole documents.
#[derive(Clone, Default)]
pub struct DocumentList {
    bytes: Bytes,
    offset: usize,
}

impl DocumentList {
    /// Copies documents into one buffer.
    pub fn from_documents<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Self {
        let mut bytes = BytesMut::new();
        for document in documents {
            bytes.extend_from_slice(document.as_bytes());
        }
        Self {
            bytes: bytes.freeze(),
            offset: 0,
        }
    }

    /// Takes over bytes that are whole documents, one after the other.
    ///
    /// # Errors
    /// When a document is malformed or the last one is cut short.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, DecodeError> {
        let list = Self {
            bytes: bytes.into(),
            offset: 0,
        };
        list.iter().try_for_each(|document| document.map(drop))?;
        Ok(list)
    }

    /// `part` lies within `whole`, which starts at `base` in its message.
    pub(crate) fn within(whole: &Bytes, part: &[u8], base: usize) -> Self {
        let offset = base + (part.as_ptr().addr() - whole.as_ptr().addr());
        Self {
            bytes: whole.slice_ref(part),
            offset,
        }
    }

    /// The bytes of all documents.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there is no document.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of the longest document, as far as they are well formed.
    pub(crate) fn longest(&self) -> usize {
        let (mut rest, mut longest) = (&self.bytes[..], 0);
        while let Ok((after, document)) = parse::document(rest, usize::MAX) {
            longest = longest.max(document.len());
            rest = after;
        }
        longest
    }

    /// The documents, each a slice of the same buffer. After an error the iteration ends.
    pub fn iter(&self) -> DocumentListIter {
        DocumentListIter {
            bytes: self.bytes.clone(),
            position: 0,
            offset: self.offset,
        }
    }
}

/// Where a list stood in its message is not part of what it is.
impl PartialEq for DocumentList {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for DocumentList {}

impl fmt::Debug for DocumentList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocumentList({} bytes)", self.bytes.len())
    }
}

impl IntoIterator for &DocumentList {
    type Item = Result<Document, DecodeError>;
    type IntoIter = DocumentListIter;

    fn into_iter(self) -> DocumentListIter {
        self.iter()
    }
}

/// Iterator of [`DocumentList::iter`].
#[derive(Clone)]
pub struct DocumentListIter {
    bytes: Bytes,
    position: usize,
    offset: usize,
}

impl Iterator for DocumentListIter {
    type Item = Result<Document, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if rest.is_empty() {
            return None;
        }
        match parse::document(rest, usize::MAX) {
            Ok((_, document)) => {
                self.position += document.len();
                Some(Ok(Document::within(&self.bytes, document)))
            }
            Err(error) => {
                let base = self.offset + self.position;
                let error = parse::locate(error, rest, base);
                self.position = self.bytes.len();
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for DocumentListIter {}

impl fmt::Debug for DocumentListIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DocumentListIter({} bytes left)",
            self.bytes.len() - self.position
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Field,
        testing::{EMPTY, PING, document, hex},
    };

    #[test]
    fn only_exactly_one_document_is_a_document() {
        let table = [
            (
                "",
                0,
                Defect::Truncated {
                    expected: Field::DocumentLength,
                    left: 0,
                },
            ),
            ("04000000", 0, Defect::DocumentLength { left: 4, found: 4 }),
            (
                "06000000 00",
                0,
                Defect::DocumentLength { left: 5, found: 6 },
            ),
            ("05000000 07", 4, Defect::DocumentEnd { found: 7 }),
            ("05000000 00 0000", 5, Defect::TrailingBytes { found: 2 }),
        ];
        for (bytes, offset, defect) in table {
            let error = Err(DecodeError::Malformed { offset, defect });
            assert_eq!(Document::from_bytes(hex(bytes)), error);
            assert_eq!(Document::copy_from_slice(&hex(bytes)), error);
        }
        assert_eq!(Document::from_bytes(hex(EMPTY)), Ok(Document::empty()));
    }

    #[test]
    fn elements_are_looked_at_only_when_asked_for() {
        let ping = document(PING);
        assert_eq!(
            (ping.first_key(), ping.contains_key("pong")),
            (Some("ping"), Ok(false))
        );
        let broken = document("08000000 20 6b00 00");
        assert_eq!(broken.first_key(), None);
        let defect = Defect::ElementType { found: 0x20 };
        assert_eq!(
            broken.embedded("k"),
            Err(DecodeError::Malformed { offset: 4, defect })
        );
    }

    #[test]
    fn pieces_are_all_of_a_document_up_to_what_is_broken() {
        let whole = document("16000000 10 61 00 01000000 02 6263 00 02000000 78 00 00");
        let pieces: Vec<_> = whole.pieces().map(Result::unwrap).collect();
        assert_eq!(
            pieces.iter().map(|piece| piece.0).collect::<Vec<_>>(),
            [&b"a"[..], b"bc"]
        );
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.1).copied().collect();
        assert_eq!(bytes, whole.as_bytes()[4..21]);
        let broken = document("0b000000 0a 6100 20 6200 00");
        let pieces: Vec<_> = broken.pieces().collect();
        let defect = Defect::ElementType { found: 0x20 };
        let error = DecodeError::Malformed { offset: 7, defect };
        assert_eq!(pieces, [Ok((&b"a"[..], &b"\x0aa\0"[..])), Err(error)]);
    }

    #[test]
    fn embedded_document_is_a_slice_and_can_be_detached() {
        let outer = document("0d000000 03 6b00 05000000 00 00");
        let inner = outer.embedded("k").unwrap().unwrap();
        assert_eq!(inner, Document::empty());
        assert_eq!(inner.as_bytes().as_ptr(), outer.as_bytes()[7..].as_ptr());
        assert_ne!(
            inner.detached().as_bytes().as_ptr(),
            inner.as_bytes().as_ptr()
        );
        assert_eq!(document(PING).embedded("ping"), Ok(None));
    }

    #[test]
    fn list_made_by_hand_holds_whole_documents() {
        let documents = [document(PING), Document::empty()];
        let list = DocumentList::from_documents(&documents);
        let again = DocumentList::from_bytes(Bytes::copy_from_slice(list.as_bytes())).unwrap();
        assert_eq!(
            again.iter().collect::<Result<Vec<_>, _>>(),
            Ok(documents.to_vec())
        );
        let cut = Bytes::copy_from_slice(&list.as_bytes()[..18]);
        let defect = Defect::Truncated {
            expected: Field::DocumentLength,
            left: 3,
        };
        let error = DecodeError::Malformed { offset: 15, defect };
        assert_eq!(DocumentList::from_bytes(cut), Err(error));
    }

    #[cfg(feature = "bson")]
    #[test]
    fn views_within_a_document_can_be_kept_without_a_copy() {
        let outer = Document::from(bson::rawdoc! { "a": 1, "b": { "c": 2 } });
        let view = outer.as_raw().get_document("b").unwrap();
        let kept = outer.share(view).unwrap();
        assert_eq!(kept.as_bytes().as_ptr(), view.as_bytes().as_ptr());
        assert_eq!(kept.to_raw_document_buf(), bson::rawdoc! { "c": 2 });
        assert_eq!(outer.share(&bson::rawdoc! { "c": 2 }), None);
    }
}
