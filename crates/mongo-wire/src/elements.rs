//! A walk over the elements of a raw BSON document that needs no allocation and reads no text.
//!
//! Only what is needed to step over a value is checked: <https://bsonspec.org/spec.html>.

use crate::error::{Defect, Field};

pub(crate) const MIN_DOCUMENT_LEN: usize = 5;

pub(crate) const DOUBLE: u8 = 0x01;
pub(crate) const STRING: u8 = 0x02;
pub(crate) const DOCUMENT: u8 = 0x03;
pub(crate) const ARRAY: u8 = 0x04;
#[cfg(feature = "bson")]
pub(crate) const OBJECT_ID: u8 = 0x07;
pub(crate) const BOOLEAN: u8 = 0x08;
pub(crate) const DATE_TIME: u8 = 0x09;
pub(crate) const NULL: u8 = 0x0a;
pub(crate) const INT32: u8 = 0x10;
pub(crate) const TIMESTAMP: u8 = 0x11;
pub(crate) const INT64: u8 = 0x12;

/// A defect and where it stands in the walked document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) defect: Defect,
}

/// One element; the value is still raw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) kind: u8,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Where the value starts in the walked document.
    pub(crate) offset: usize,
}

/// The elements of a document whose length prefix and closing zero are known to be right.
#[derive(Clone, Debug)]
pub(crate) struct Elements<'a> {
    document: &'a [u8],
    position: usize,
}

impl<'a> Elements<'a> {
    pub(crate) const fn new(document: &'a [u8]) -> Self {
        Self {
            document,
            position: 4,
        }
    }

    /// The elements from a place on where one starts.
    #[cfg(feature = "bson")]
    pub(crate) const fn from(document: &'a [u8], position: usize) -> Self {
        Self { document, position }
    }

    /// Where the next element starts.
    #[cfg(feature = "bson")]
    pub(crate) const fn position(&self) -> usize {
        self.position
    }

    fn step(&mut self) -> Result<Element<'a>, Fault> {
        let kind = self.document[self.position];
        let body = &self.document[..self.document.len() - 1];
        let start = self.position + 1;
        let Some(key_len) = zero_at(&body[start..]) else {
            let left = body.len() - start;
            let defect = Defect::Unterminated {
                expected: Field::ElementKey,
                left,
            };
            return Err(Fault {
                offset: start,
                defect,
            });
        };
        let offset = start + key_len + 1;
        let rest = &body[offset..];
        let len = value_len(kind, rest).map_err(|defect| {
            let offset = if matches!(defect, Defect::ElementType { .. }) {
                start - 1
            } else {
                offset
            };
            Fault { offset, defect }
        })?;
        self.position = offset + len;
        Ok(Element {
            kind,
            key: &body[start..offset - 1],
            value: &rest[..len],
            offset,
        })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position + 1 >= self.document.len() {
            return None;
        }
        let element = self.step();
        if element.is_err() {
            self.position = self.document.len();
        }
        Some(element)
    }
}

/// The first element with this key.
pub(crate) fn find<'a>(document: &'a [u8], key: &str) -> Result<Option<Element<'a>>, Fault> {
    for element in Elements::new(document) {
        let element = element?;
        if element.key == key.as_bytes() {
            return Ok(Some(element));
        }
    }
    Ok(None)
}

/// Where the first zero byte stands, which ends a key: eight bytes are looked at together.
#[inline]
pub(crate) fn zero_at(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*word);
        // The lowest bit that stays marks the first zero byte.
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(bytes.len() - rest.len() + zeros.trailing_zeros() as usize / 8);
        }
        rest = behind;
    }
    let at = rest.iter().position(|byte| *byte == 0)?;
    Some(bytes.len() - rest.len() + at)
}

/// Bytes of a value of this type at the start of `rest`, known to fit.
fn value_len(kind: u8, rest: &[u8]) -> Result<usize, Defect> {
    let fixed = |len: usize| {
        let expected = Field::ElementValue;
        let left = rest.len();
        if len <= left {
            Ok(len)
        } else {
            Err(Defect::Truncated { expected, left })
        }
    };
    match kind {
        0x06 | NULL | 0x7f | 0xff => Ok(0),
        BOOLEAN => fixed(1),
        INT32 => fixed(4),
        DOUBLE | INT64 | TIMESTAMP | DATE_TIME => fixed(8),
        0x07 => fixed(12),
        0x13 => fixed(16),
        STRING | 0x0d | 0x0e => prefixed(rest, 4, 1),
        0x05 => prefixed(rest, 5, 0),
        0x0c => prefixed(rest, 16, 1),
        DOCUMENT | ARRAY => embedded(rest),
        0x0f => prefixed(rest, 0, 14),
        0x0b => {
            let pattern = cstring_len(rest)?;
            Ok(pattern + cstring_len(&rest[pattern..])?)
        }
        found => Err(Defect::ElementType { found }),
    }
}

/// A value whose 32-bit prefix counts all but `uncounted` bytes and is at least `minimum`.
fn prefixed(rest: &[u8], uncounted: usize, minimum: usize) -> Result<usize, Defect> {
    let Some(prefix) = rest.first_chunk::<4>() else {
        return Err(Defect::Truncated {
            expected: Field::ElementValue,
            left: rest.len(),
        });
    };
    let found = i32::from_le_bytes(*prefix);
    let Some(left) = rest.len().checked_sub(uncounted) else {
        return Err(Defect::Truncated {
            expected: Field::ElementValue,
            left: rest.len(),
        });
    };
    match usize::try_from(found) {
        Ok(len) if (minimum..=left).contains(&len) => Ok(len + uncounted),
        _ => Err(Defect::ValueLength {
            minimum,
            left,
            found: found.into(),
        }),
    }
}

/// A document or an array, down to its closing zero.
fn embedded(rest: &[u8]) -> Result<usize, Defect> {
    let len = prefixed(rest, 0, MIN_DOCUMENT_LEN)?;
    match rest[len - 1] {
        0 => Ok(len),
        found => Err(Defect::DocumentEnd { found }),
    }
}

fn cstring_len(rest: &[u8]) -> Result<usize, Defect> {
    let end = zero_at(rest);
    let expected = Field::ElementValue;
    end.map(|end| end + 1).ok_or(Defect::Unterminated {
        expected,
        left: rest.len(),
    })
}

#[cfg(test)]
mod tests;
