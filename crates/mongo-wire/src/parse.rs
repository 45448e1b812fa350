//! The parsers that messages share, over nom.
//!
//! They work on whole frames, so the end of input is a defect here, never a wish for more bytes.

use nom::{
    IResult, Offset,
    bytes::complete::{take, take_till},
    error::{ErrorKind, ParseError},
    number::complete::{le_i32, le_i64, le_u8, le_u32},
};

use crate::{
    elements::MIN_DOCUMENT_LEN,
    error::{Breach, DecodeError, Defect, Field, Limit},
};

pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, At<'a>>;

/// What is wrong and the input at that point; [`locate`] turns the pair into an offset.
#[derive(Debug)]
pub(crate) struct At<'a> {
    input: &'a [u8],
    problem: Problem,
}

#[derive(Debug)]
pub(crate) enum Problem {
    Defect(Defect),
    Breach(Breach),
    Limit {
        limit: Limit,
        maximum: usize,
        found: usize,
    },
}

impl Problem {
    pub(crate) fn at(self, offset: usize) -> DecodeError {
        match self {
            Self::Defect(defect) => DecodeError::Malformed { offset, defect },
            Self::Breach(breach) => DecodeError::Violation { offset, breach },
            Self::Limit {
                limit,
                maximum,
                found,
            } => DecodeError::LimitExceeded {
                offset,
                limit,
                maximum,
                found,
            },
        }
    }
}

impl From<Defect> for Problem {
    fn from(defect: Defect) -> Self {
        Self::Defect(defect)
    }
}

impl From<Breach> for Problem {
    fn from(breach: Breach) -> Self {
        Self::Breach(breach)
    }
}

impl<'a> ParseError<&'a [u8]> for At<'a> {
    fn from_error_kind(input: &'a [u8], _: ErrorKind) -> Self {
        let defect = Defect::Truncated {
            expected: Field::ElementValue,
            left: input.len(),
        };
        Self {
            input,
            problem: Problem::Defect(defect),
        }
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Fails at the given input.
#[inline]
pub(crate) fn fail<T>(input: &[u8], problem: impl Into<Problem>) -> Parsed<'_, T> {
    Err(nom::Err::Failure(At {
        input,
        problem: problem.into(),
    }))
}

/// The error with its offset; `base` stands at `offset` in the message.
#[inline]
pub(crate) fn locate(error: nom::Err<At<'_>>, base: &[u8], offset: usize) -> DecodeError {
    let (nom::Err::Error(At { input, problem }) | nom::Err::Failure(At { input, problem })) = error
    else {
        // Only streaming parsers ask for more, and none is used.
        let defect = Defect::TrailingBytes { found: 0 };
        return DecodeError::Malformed { offset, defect };
    };
    problem.at(offset + base.offset(input))
}

/// A fixed-size number; running out of input names the field.
#[inline]
fn number<'a, T>(
    parser: impl Fn(&'a [u8]) -> Parsed<'a, T>,
    expected: Field,
    input: &'a [u8],
) -> Parsed<'a, T> {
    parser(input).or_else(|_| {
        fail(
            input,
            Defect::Truncated {
                expected,
                left: input.len(),
            },
        )
    })
}

#[inline]
pub(crate) fn byte(expected: Field, input: &[u8]) -> Parsed<'_, u8> {
    number(le_u8, expected, input)
}

#[inline]
pub(crate) fn int32(expected: Field, input: &[u8]) -> Parsed<'_, i32> {
    number(le_i32, expected, input)
}

#[inline]
pub(crate) fn uint32(expected: Field, input: &[u8]) -> Parsed<'_, u32> {
    number(le_u32, expected, input)
}

#[inline]
pub(crate) fn int64(expected: Field, input: &[u8]) -> Parsed<'_, i64> {
    number(le_i64, expected, input)
}

/// Text up to a zero byte, which is consumed and not part of it.
#[inline]
pub(crate) fn cstring(expected: Field, input: &[u8]) -> Parsed<'_, &str> {
    let (rest, text) = take_till(|byte| byte == 0)(input)?;
    let Some((_, rest)) = rest.split_first() else {
        return fail(
            input,
            Defect::Unterminated {
                expected,
                left: input.len(),
            },
        );
    };
    match std::str::from_utf8(text) {
        Ok(text) => Ok((rest, text)),
        Err(error) => {
            let bad = &text[error.valid_up_to()..];
            fail(
                bad,
                Defect::NotUtf8 {
                    expected,
                    found: bad[0],
                },
            )
        }
    }
}

/// One document: length prefix against the bytes left and the limit, closing zero.
#[inline]
pub(crate) fn document(input: &[u8], max_len: usize) -> Parsed<'_, &[u8]> {
    let (_, found) = int32(Field::DocumentLength, input)?;
    let len = match usize::try_from(found) {
        Ok(len) if (MIN_DOCUMENT_LEN..=input.len()).contains(&len) => len,
        _ => {
            return fail(
                input,
                Defect::DocumentLength {
                    left: input.len(),
                    found,
                },
            );
        }
    };
    if len > max_len {
        let limit = Limit::DocumentLength;
        return fail(
            input,
            Problem::Limit {
                limit,
                maximum: max_len,
                found: len,
            },
        );
    }
    let (rest, document) = take(len)(input)?;
    match document[len - 1] {
        0 => Ok((rest, document)),
        found => fail(&document[len - 1..], Defect::DocumentEnd { found }),
    }
}

/// The bytes that a sequence's size field counts, without the field itself.
#[inline]
pub(crate) fn sequence_content(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (content, found) = int32(Field::SequenceLength, input)?;
    match usize::try_from(found) {
        Ok(size) if (5..=input.len()).contains(&size) => take(size - 4)(content),
        _ => fail(
            input,
            Defect::SequenceLength {
                left: input.len(),
                found,
            },
        ),
    }
}

/// The input must be used up.
#[inline]
pub(crate) fn end(input: &[u8]) -> Parsed<'_, ()> {
    if input.is_empty() {
        return Ok((input, ()));
    }
    fail(input, Defect::TrailingBytes { found: input.len() })
}
