//! The documents of `firstBatch` or `nextBatch`, as slices of the reply.

use std::{fmt, iter::FusedIterator, ops::Range};

use bytes::Bytes;

use super::ReplyError;
use crate::{
    document::Document,
    elements::{self, Fault, MIN_DOCUMENT_LEN},
    error::{Defect, Field},
};

/// Digits of the index of an array's last element, give or take some.
const LONGEST_INDEX: usize = 7;

/// A batch: the bytes of a BSON array inside the reply, and where it stands there.
///
/// Only the array's outer bounds are checked beforehand. Each document's bounds are checked when
/// the iteration reaches it; an error ends the iteration and tells the offset in the reply, and
/// what was read before it stays good. Array keys are stepped over, not read.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    array: Bytes,
    offset: usize,
}

impl Batch {
    /// `array` lies within `reply`, at `offset`.
    pub(super) fn within(reply: &Document, array: &[u8], offset: usize) -> Self {
        Self {
            array: reply.shared().slice_ref(array),
            offset,
        }
    }

    /// A batch that was put together here rather than read from a reply: each document is copied
    /// once.
    pub fn from_documents(documents: &[Document]) -> Self {
        let documents_len: usize = documents.iter().map(Document::len).sum();
        let keys_len = documents.len() * (1 + LONGEST_INDEX + 1);
        let mut array = Vec::with_capacity(MIN_DOCUMENT_LEN + keys_len + documents_len);
        array.extend([0; 4]);
        for (index, document) in documents.iter().enumerate() {
            array.push(elements::DOCUMENT);
            array.extend(index.to_string().as_bytes());
            array.push(0);
            array.extend(document.as_bytes());
        }
        array.push(0);
        // Nobody reads it, so that it may be wrong where 31 bits do not hold it.
        let length = i32::try_from(array.len()).unwrap_or(i32::MAX);
        array[..4].copy_from_slice(&length.to_le_bytes());
        Self {
            array: Bytes::from(array),
            offset: 0,
        }
    }

    /// Bytes of the array: what the batch keeps in memory, give or take the reply around it.
    pub const fn bytes_len(&self) -> usize {
        self.array.len()
    }

    /// Whether there is no document.
    pub const fn is_empty(&self) -> bool {
        self.array.len() == MIN_DOCUMENT_LEN
    }

    /// Where the array starts in the reply document.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The documents as borrowed views: no copy, no allocation, no reference count.
    #[cfg(feature = "bson")]
    pub fn iter(&self) -> BatchIter<'_> {
        BatchIter {
            array: &self.array,
            walk: Walk::default(),
            offset: self.offset,
        }
    }

    /// The documents as slices that keep the reply's buffer alive: a reference count each. The
    /// iterator owns its part of the buffer and can be kept while the batch is handed out.
    pub fn documents(&self) -> BatchDocuments {
        BatchDocuments {
            array: self.array.clone(),
            walk: Walk::default(),
            offset: self.offset,
            here: 0..0,
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} bytes at {})", self.array.len(), self.offset)
    }
}

#[cfg(feature = "bson")]
impl<'a> IntoIterator for &'a Batch {
    type Item = Result<&'a bson::RawDocument, ReplyError>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

/// Iterator of [`Batch::iter`].
#[cfg(feature = "bson")]
#[derive(Clone, Debug)]
pub struct BatchIter<'a> {
    array: &'a [u8],
    walk: Walk,
    offset: usize,
}

#[cfg(feature = "bson")]
impl<'a> Iterator for BatchIter<'a> {
    type Item = Result<&'a bson::RawDocument, ReplyError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let found = self.walk.next(self.array)?;
        Some(
            found
                .map_err(|fault| super::within(fault, self.offset))
                .map(|document| {
                    bson::RawDocument::from_bytes(document)
                        .expect("length and closing zero were checked")
                }),
        )
    }
}

#[cfg(feature = "bson")]
impl FusedIterator for BatchIter<'_> {}

/// Iterator of [`Batch::documents`]. It can also be gone through step by step, where not every
/// document is wanted, or a view of it is enough.
#[derive(Clone)]
pub struct BatchDocuments {
    array: Bytes,
    walk: Walk,
    offset: usize,
    /// The document of the last step; empty when there is none.
    here: Range<usize>,
}

impl BatchDocuments {
    /// Bytes of the array that have not been iterated yet, its closing zero included.
    pub const fn bytes_left(&self) -> usize {
        self.array.len() - self.walk.position
    }

    /// Steps to the next document.
    ///
    /// # Errors
    /// As the iteration: where its bounds are not in order. That was the last step.
    #[inline]
    pub fn step(&mut self) -> Option<Result<(), ReplyError>> {
        let found = self.walk.next(&self.array)?;
        Some(match found {
            Ok(document) => {
                // Its last byte is the last that was stepped over.
                self.here = self.walk.position - document.len()..self.walk.position;
                Ok(())
            }
            Err(fault) => Err(super::within(fault, self.offset)),
        })
    }

    /// The document of the last step that found one, lent.
    #[inline]
    pub fn here(&self) -> Option<&[u8]> {
        (!self.here.is_empty()).then(|| &self.array[self.here.clone()])
    }

    /// The same, sharing the buffer.
    #[inline]
    pub fn share(&self) -> Option<Document> {
        self.here().map(|here| Document::within(&self.array, here))
    }

    /// Where that document starts in the reply document.
    pub const fn offset(&self) -> usize {
        self.offset + self.here.start
    }
}

impl Iterator for BatchDocuments {
    type Item = Result<Document, ReplyError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.step()? {
            Ok(()) => self.share().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }
}

impl FusedIterator for BatchDocuments {}

impl fmt::Debug for BatchDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchDocuments({} bytes left)", self.bytes_left())
    }
}

/// A position in an array whose elements must be documents.
#[derive(Clone, Copy, Debug)]
struct Walk {
    position: usize,
}

impl Default for Walk {
    fn default() -> Self {
        Self { position: 4 }
    }
}

impl Walk {
    #[inline]
    fn next<'a>(&mut self, array: &'a [u8]) -> Option<Result<&'a [u8], Fault>> {
        let end = array.len() - 1;
        if self.position >= end {
            return None;
        }
        let found = document_at(array, self.position);
        self.position = match &found {
            Ok((_, next)) => *next,
            Err(_) => array.len(),
        };
        Some(found.map(|(document, _)| document))
    }
}

/// The document whose array element starts at `position`, and where the next element starts.
#[inline]
fn document_at(array: &[u8], position: usize) -> Result<(&[u8], usize), Fault> {
    let fault = |offset, defect| Err(Fault { offset, defect });
    let body = &array[..array.len() - 1];
    match body[position] {
        elements::DOCUMENT => {}
        found => return fault(position, Defect::BatchElement { found }),
    }
    let key = position + 1;
    let Some(key_len) = elements::zero_at(&body[key..]) else {
        let left = body.len() - key;
        return fault(
            key,
            Defect::Unterminated {
                expected: Field::ElementKey,
                left,
            },
        );
    };
    let start = key + key_len + 1;
    let rest = &body[start..];
    let Some(prefix) = rest.first_chunk::<4>() else {
        let expected = Field::DocumentLength;
        return fault(
            start,
            Defect::Truncated {
                expected,
                left: rest.len(),
            },
        );
    };
    let found = i32::from_le_bytes(*prefix);
    let len = match usize::try_from(found) {
        Ok(len) if (MIN_DOCUMENT_LEN..=rest.len()).contains(&len) => len,
        _ => {
            return fault(
                start,
                Defect::DocumentLength {
                    left: rest.len(),
                    found,
                },
            );
        }
    };
    match rest[len - 1] {
        0 => Ok((&rest[..len], start + len)),
        found => fault(start + len - 1, Defect::DocumentEnd { found }),
    }
}
