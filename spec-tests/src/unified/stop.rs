//! What keeps a case from going on.

use std::fmt;

use bson::Bson;

use super::matching::Mismatch;

/// Why a case ends before its end.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// It asks for something that is refused as a whole.
    Skip(String),
    /// Something is not as expected.
    Fail(Problem),
}

/// What is not as expected.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) diff: Option<String>,
}

/// What can be done, or ends the case.
pub(super) type Run<T = ()> = Result<T, Stop>;

impl Stop {
    pub(super) fn skip(reason: impl Into<String>) -> Self {
        Self::Skip(reason.into())
    }

    pub(super) fn fail(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Fail(Problem {
            message,
            diff: None,
        })
    }

    /// Says of `what` where it differs, and shows both values.
    pub(super) fn differs(what: &str, mismatch: &Mismatch, values: (&Bson, Option<&Bson>)) -> Self {
        let (expected, actual) = values;
        Self::Fail(Problem {
            message: format!("{what}: {mismatch}"),
            diff: Some(diff(expected, actual)),
        })
    }

    /// Says where in the case it happened.
    pub(super) fn at(self, place: impl fmt::Display) -> Self {
        match self {
            Self::Fail(problem) => Self::Fail(Problem {
                message: format!("{place}: {}", problem.message),
                ..problem
            }),
            skip => skip,
        }
    }
}

/// The lines of both values in extended JSON: `-` was expected, `+` was found.
pub(super) fn diff(expected: &Bson, actual: Option<&Bson>) -> String {
    let lines = |value: &Bson| {
        let json = value.clone().into_relaxed_extjson();
        let text = serde_json::to_string_pretty(&json).unwrap_or_else(|_| value.to_string());
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = lines(expected);
    let actual = actual.map_or_else(|| vec!["nothing".to_owned()], lines);
    let common = longest_common(&expected, &actual);
    let mut text = Vec::new();
    let (mut left, mut right) = (0, 0);
    for (at_left, at_right) in common.into_iter().chain([(expected.len(), actual.len())]) {
        text.extend(
            expected[left..at_left]
                .iter()
                .map(|line| format!("- {line}")),
        );
        text.extend(
            actual[right..at_right]
                .iter()
                .map(|line| format!("+ {line}")),
        );
        text.extend(expected.get(at_left).map(|line| format!("  {line}")));
        (left, right) = (at_left + 1, at_right + 1);
    }
    text.join("\n")
}

/// The places of the lines of a longest common subsequence.
fn longest_common(left: &[String], right: &[String]) -> Vec<(usize, usize)> {
    let mut lengths = vec![vec![0_usize; right.len() + 1]; left.len() + 1];
    for i in (0..left.len()).rev() {
        for j in (0..right.len()).rev() {
            lengths[i][j] = if left[i] == right[j] {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut places = Vec::new();
    while i < left.len() && j < right.len() {
        if left[i] == right[j] {
            places.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[i + 1][j] >= lengths[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_diff_shows_what_was_expected_beside_what_was_found() {
        let expected = Bson::from(doc! { "a": 1, "b": 2, "c": 3 });
        let actual = Bson::from(doc! { "a": 1, "b": 5, "c": 3 });
        let lines = "  {\n    \"a\": 1,\n-   \"b\": 2,\n+   \"b\": 5,\n    \"c\": 3\n  }";
        assert_eq!(diff(&expected, Some(&actual)), lines);
        assert_eq!(diff(&1.into(), None), "- 1\n+ nothing");
    }
}
