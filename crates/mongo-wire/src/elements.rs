//! A walk over the elements of a raw BSON document that needs no allocation and reads no text.
//!
//! Only what is needed to step over a value is checked: <https://bsonspec.org/spec.html>.

#[cfg(feature = "bson")]
mod values;

use crate::error::{Defect, Field};

pub(crate) const MIN_DOCUMENT_LEN: usize = 5;

pub(crate) const DOUBLE: u8 = 0x01;
pub(crate) const STRING: u8 = 0x02;
pub(crate) const DOCUMENT: u8 = 0x03;
pub(crate) const ARRAY: u8 = 0x04;
#[cfg(feature = "bson")]
pub(crate) const BINARY: u8 = 0x05;
#[cfg(feature = "bson")]
pub(crate) const OBJECT_ID: u8 = 0x07;
pub(crate) const BOOLEAN: u8 = 0x08;
pub(crate) const DATE_TIME: u8 = 0x09;
pub(crate) const NULL: u8 = 0x0a;
#[cfg(feature = "bson")]
pub(crate) const CODE_WITH_SCOPE: u8 = 0x0f;
pub(crate) const INT32: u8 = 0x10;
pub(crate) const TIMESTAMP: u8 = 0x11;
pub(crate) const INT64: u8 = 0x12;

/// A defect and where it stands in the walked document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {offset}: {defect}")]
#[non_exhaustive]
pub struct Fault {
    /// Where it stands, in bytes from the start of the document.
    pub offset: usize,
    /// What was expected and what stood there.
    pub defect: Defect,
}

/// One element; the value is still raw.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "bson"),
    expect(unreachable_pub, reason = "nothing reads values then")
)]
pub struct Element<'a> {
    pub(crate) kind: u8,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Where the value starts in the walked document.
    pub(crate) offset: usize,
}

/// The elements of a document in their order, each as it lies there.
///
/// Only what is needed to step over a value is checked, and the first [`Fault`] is the last item.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "bson"),
    expect(unreachable_pub, reason = "nothing reads values then")
)]
pub struct Elements<'a> {
    /// From the next element to the closing zero, which is left out.
    rest: &'a [u8],
    /// Where `rest` ends in the document.
    end: usize,
}

impl<'a> Elements<'a> {
    /// Of a document whose length prefix and closing zero are known to be right.
    pub(crate) const fn new(document: &'a [u8]) -> Self {
        let end = document.len() - 1;
        let (rest, _) = document.split_at(end);
        let (_, rest) = rest.split_at(4);
        Self { rest, end }
    }

    /// The next element, if it is in order.
    #[expect(
        clippy::inline_always,
        reason = "a fifth of a typed event's time, as its parts then need not go through memory"
    )]
    #[inline(always)]
    fn step(&mut self) -> Option<Element<'a>> {
        let (&kind, rest) = self.rest.split_first()?;
        let (key, rest) = rest.split_at_checked(zero_at(rest)?)?;
        let (_, rest) = rest.split_first()?;
        let offset = self.end - rest.len();
        let (value, rest) = rest.split_at_checked(value_len(kind, rest)?)?;
        self.rest = rest;
        Some(Element {
            kind,
            key,
            value,
            offset,
        })
    }

    /// What is wrong with the next element.
    #[cold]
    fn fault(&self) -> Fault {
        let at = |rest: &[u8], defect| Fault {
            offset: self.end - rest.len(),
            defect,
        };
        let (&kind, behind) = self.rest.split_first().unwrap_or((&0, &[]));
        let Some(key_len) = zero_at(behind) else {
            let expected = Field::ElementKey;
            let left = behind.len();
            return at(behind, Defect::Unterminated { expected, left });
        };
        let value = &behind[key_len + 1..];
        match defect(kind, value) {
            defect @ Defect::ElementType { .. } => at(self.rest, defect),
            defect => at(value, defect),
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Fault>;

    #[expect(
        clippy::inline_always,
        reason = "a fifth of a typed event's time, as its parts then need not go through memory"
    )]
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if let Some(element) = self.step() {
            return Some(Ok(element));
        }
        let fault = self.fault();
        self.rest = &[];
        Some(Err(fault))
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

/// Bytes of any value of this type, if all have as many.
#[inline]
fn fixed_len(kind: u8) -> Option<usize> {
    match kind {
        0x06 | NULL | 0x7f | 0xff => Some(0),
        BOOLEAN => Some(1),
        INT32 => Some(4),
        DOUBLE | INT64 | TIMESTAMP | DATE_TIME => Some(8),
        0x07 => Some(12),
        0x13 => Some(16),
        _ => None,
    }
}

/// Of a value of this type with its length in front: how many bytes that does not count, and what
/// it is at least.
#[inline]
fn prefix(kind: u8) -> Option<(usize, usize)> {
    match kind {
        STRING | 0x0d | 0x0e => Some((4, 1)),
        DOCUMENT | ARRAY => Some((0, MIN_DOCUMENT_LEN)),
        0x05 => Some((5, 0)),
        0x0c => Some((16, 1)),
        0x0f => Some((0, 14)),
        _ => None,
    }
}

/// Bytes of a value of this type at the start of `rest`, if it is in order; there may be fewer.
#[inline]
fn value_len(kind: u8, rest: &[u8]) -> Option<usize> {
    if let Some(len) = fixed_len(kind) {
        return Some(len);
    }
    if let Some((uncounted, minimum)) = prefix(kind) {
        let counted = i32::from_le_bytes(*rest.first_chunk()?);
        let counted = usize::try_from(counted).ok()?;
        let ends =
            !matches!(kind, DOCUMENT | ARRAY) || rest.get(counted.wrapping_sub(1)) == Some(&0);
        return (counted >= minimum && ends).then_some(counted + uncounted);
    }
    if kind != 0x0b {
        return None;
    }
    let pattern = zero_at(rest)? + 1;
    Some(pattern + zero_at(&rest[pattern..])? + 1)
}

/// Why a value of this type at the start of `rest` cannot be stepped over.
fn defect(kind: u8, rest: &[u8]) -> Defect {
    let (expected, left) = (Field::ElementValue, rest.len());
    let truncated = Defect::Truncated { expected, left };
    if let Some((uncounted, minimum)) = prefix(kind) {
        let (Some(found), Some(left)) = (rest.first_chunk(), left.checked_sub(uncounted)) else {
            return truncated;
        };
        let found = i32::from_le_bytes(*found);
        return match usize::try_from(found) {
            Ok(len) if (minimum..=left).contains(&len) => Defect::DocumentEnd {
                found: rest[len - 1],
            },
            _ => Defect::ValueLength {
                minimum,
                left,
                found: found.into(),
            },
        };
    }
    if fixed_len(kind).is_some() {
        return truncated;
    }
    if kind != 0x0b {
        return Defect::ElementType { found: kind };
    }
    let options = zero_at(rest).map_or(0, |end| end + 1);
    let left = left - options;
    Defect::Unterminated { expected, left }
}

#[cfg(test)]
mod tests;
