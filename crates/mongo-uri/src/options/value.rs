//! Values of one type each (Connection String specification, "Values").

use std::collections::BTreeMap;
use std::time::Duration;

use crate::credential::CredentialError;
use crate::error::OptionProblem;
use crate::warning::WarningKind;

/// Why a value is not taken: reported and ignored, or the end of parsing.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    Ignored(WarningKind),
    Fatal(OptionProblem),
    Credential(CredentialError),
}

impl From<WarningKind> for Refusal {
    fn from(kind: WarningKind) -> Self {
        Self::Ignored(kind)
    }
}

impl From<OptionProblem> for Refusal {
    fn from(problem: OptionProblem) -> Self {
        Self::Fatal(problem)
    }
}

impl From<CredentialError> for Refusal {
    fn from(error: CredentialError) -> Self {
        Self::Credential(error)
    }
}

/// The whole numbers an option takes.
pub(super) struct Range {
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) expected: &'static str,
}

/// The specification's integers are 32 bits wide unless it says otherwise.
const MAX: i64 = i32::MAX as i64;

pub(super) const NON_NEGATIVE: Range = Range {
    min: 0,
    max: MAX,
    expected: "a whole number of at least 0",
};
pub(super) const POSITIVE: Range = Range {
    min: 1,
    max: MAX,
    expected: "a whole number of at least 1",
};
pub(super) const NON_NEGATIVE_LONG: Range = Range {
    min: 0,
    max: i64::MAX,
    expected: "a whole number of at least 0",
};
pub(super) const HEARTBEAT: Range = Range {
    min: 500,
    max: MAX,
    expected: "a whole number of at least 500",
};
pub(super) const STALENESS: Range = Range {
    min: -1,
    max: MAX,
    expected: "a whole number of at least 90, or -1 for no limit",
};
pub(super) const ZLIB_LEVEL: Range = Range {
    min: -1,
    max: 9,
    expected: "a whole number from -1 to 9",
};
pub(super) const PORT: Range = Range {
    min: 1,
    max: 65_535,
    expected: "a whole number from 1 to 65535",
};

/// Refuses the empty value, which the specification wants ignored.
pub(super) fn present(text: &str) -> Result<&str, WarningKind> {
    if text.is_empty() {
        Err(WarningKind::EmptyValue)
    } else {
        Ok(text)
    }
}

pub(super) fn integer(text: &str, range: &Range) -> Result<i64, WarningKind> {
    let digits = present(text)?.strip_prefix('-').unwrap_or(text);
    let invalid = WarningKind::InvalidValue {
        expected: range.expected,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid);
    }
    match text.parse() {
        Ok(number) if (range.min..=range.max).contains(&number) => Ok(number),
        _ => Err(invalid),
    }
}

/// An integer of a range that begins at 0 or above.
pub(super) fn unsigned(text: &str, range: &Range) -> Result<u64, WarningKind> {
    let number = integer(text, range)?;
    u64::try_from(number).map_err(|_| WarningKind::InvalidValue {
        expected: range.expected,
    })
}

pub(super) fn count(text: &str, range: &Range) -> Result<u32, WarningKind> {
    let number = unsigned(text, range)?;
    u32::try_from(number).map_err(|_| WarningKind::InvalidValue {
        expected: range.expected,
    })
}

pub(super) fn millis(text: &str, range: &Range) -> Result<Duration, WarningKind> {
    unsigned(text, range).map(Duration::from_millis)
}

/// A truth value; old words are taken with a warning.
pub(super) fn flag(text: &str, warnings: &mut Vec<WarningKind>) -> Result<bool, WarningKind> {
    let meaning = match present(text)? {
        "true" => return Ok(true),
        "false" => return Ok(false),
        "1" | "yes" | "y" | "t" => true,
        "0" | "-1" | "no" | "n" | "f" => false,
        _ => {
            return Err(WarningKind::InvalidValue {
                expected: "true or false",
            });
        }
    };
    warnings.push(WarningKind::DeprecatedBoolean { meaning });
    Ok(meaning)
}

/// `name:value,name:value`: each piece as a pair, or as it is if it lacks the colon or the name.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = Result<(&str, &str), &str>> {
    text.split(',').map(|piece| match piece.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        _ => Err(piece),
    })
}

/// Pairs that are all well-formed.
pub(super) fn map(text: &str) -> Option<BTreeMap<String, String>> {
    pairs(text)
        .map(|pair| pair.ok().map(|(n, v)| (n.to_owned(), v.to_owned())))
        .collect()
}
