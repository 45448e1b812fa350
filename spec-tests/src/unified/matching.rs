//! Whether a value is as expected ("Evaluating Matches").

use std::fmt;

use bson::{Bson, Document};
use serde_json::Value;

/// What operators ask about the case's entities.
pub(super) trait Lookup {
    /// The value of a BSON entity.
    fn value(&self, name: &str) -> Option<Bson>;
    /// The `lsid` of a session entity.
    fn lsid(&self, name: &str) -> Option<Bson>;
}

/// For what is compared where there is no entity.
pub(super) struct NoEntities;

impl Lookup for NoEntities {
    fn value(&self, _: &str) -> Option<Bson> {
        None
    }

    fn lsid(&self, _: &str) -> Option<Bson> {
        None
    }
}

/// The first difference that was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mismatch {
    /// Keys and indexes from the root, such as `command.pipeline[0]`.
    path: String,
    problem: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.problem),
            path => write!(f, "{}: {}", path.trim_start_matches('.'), self.problem),
        }
    }
}

impl Mismatch {
    fn new(problem: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            problem: problem.into(),
        }
    }

    fn below(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }
}

type Check = Result<(), Mismatch>;

/// The rules, and the entities that they refer to.
#[derive(Clone, Copy)]
pub(super) struct Matcher<'a> {
    entities: &'a dyn Lookup,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(entities: &'a dyn Lookup) -> Self {
        Self { entities }
    }

    /// Compares a value that may be missing; a document may have more keys than expected.
    pub(super) fn root(&self, expected: &Bson, actual: Option<&Bson>) -> Check {
        self.check(expected, actual, true)
    }

    /// Compares a document as [`root`](Self::root) does.
    pub(super) fn root_document(&self, expected: &Document, actual: &Document) -> Check {
        self.documents(expected, actual, true)
    }

    /// Compares the documents of an iterable, each of which is a root.
    pub(super) fn roots(&self, expected: &Bson, actual: &[Bson]) -> Check {
        let Bson::Array(elements) = expected else {
            return self.check(expected, Some(&Bson::Array(actual.to_vec())), false);
        };
        self.arrays(elements, actual, true)
    }

    fn check(&self, expected: &Bson, actual: Option<&Bson>, is_root: bool) -> Check {
        if let Some((operator, operand)) = operator(expected) {
            return self.operator(operator, operand, (actual, is_root));
        }
        let actual = actual.ok_or_else(|| Mismatch::new(format!("{expected} is missing")))?;
        match (expected, actual) {
            (Bson::Document(expected), Bson::Document(actual)) => {
                self.documents(expected, actual, is_root)
            }
            (Bson::Array(expected), Bson::Array(actual)) => self.arrays(expected, actual, false),
            _ if are_equal(expected, actual) => Ok(()),
            _ => Err(Mismatch::new(format!("expected {expected}, got {actual}"))),
        }
    }

    fn documents(&self, expected: &Document, actual: &Document, is_root: bool) -> Check {
        for (key, expected) in expected {
            self.check(expected, actual.get(key), false)
                .map_err(|mismatch| mismatch.below(&format!(".{key}")))?;
        }
        let extra = actual.keys().find(|key| !expected.contains_key(key));
        match extra {
            Some(key) if !is_root => Err(Mismatch::new(format!("{key} is not expected"))),
            _ => Ok(()),
        }
    }

    fn arrays(&self, expected: &[Bson], actual: &[Bson], are_roots: bool) -> Check {
        if expected.len() != actual.len() {
            let (expected, actual) = (expected.len(), actual.len());
            let problem = format!("expected {expected} elements, got {actual}");
            return Err(Mismatch::new(problem));
        }
        for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
            self.check(expected, Some(actual), are_roots)
                .map_err(|mismatch| mismatch.below(&format!("[{index}]")))?;
        }
        Ok(())
    }

    fn operator(
        &self,
        operator: &str,
        operand: &Bson,
        (actual, is_root): (Option<&Bson>, bool),
    ) -> Check {
        let existing = || actual.ok_or_else(|| Mismatch::new("a value is expected"));
        let holds = |holds: bool| {
            let actual = actual.map_or("nothing".to_owned(), ToString::to_string);
            let problem =
                || Mismatch::new(format!("{operator} {operand} does not hold for {actual}"));
            holds.then_some(()).ok_or_else(problem)
        };
        match operator {
            "$$exists" => {
                let wanted = operand.as_bool();
                let wanted = wanted.ok_or_else(|| malformed(operator, operand))?;
                holds(actual.is_some() == wanted)
            }
            "$$unsetOrMatches" => match actual {
                None => Ok(()),
                Some(_) => self.check(operand, actual, is_root),
            },
            "$$type" => {
                let actual = type_name(existing()?);
                holds(types(operand)?.contains(&actual) || is_number(operand, actual))
            }
            "$$matchesEntity" => {
                let entity = self.named(operator, operand, |name| self.entities.value(name))?;
                self.check(&entity, actual, is_root)
            }
            "$$sessionLsid" => {
                let lsid = self.named(operator, operand, |name| self.entities.lsid(name))?;
                self.check(&lsid, actual, false)
            }
            "$$matchesHexBytes" => {
                let bytes = operand.as_str().and_then(hex_bytes);
                let bytes = bytes.ok_or_else(|| malformed(operator, operand))?;
                holds(matches!(existing()?, Bson::Binary(found) if found.bytes == bytes))
            }
            "$$lte" => {
                let order = compare_numbers(existing()?, operand);
                holds(order.is_some_and(std::cmp::Ordering::is_le))
            }
            "$$matchAsDocument" => {
                let document = existing()?.as_str().and_then(extended_json);
                let document = document.ok_or_else(|| {
                    Mismatch::new(format!(
                        "{} is no document in extended JSON",
                        existing_text(actual)
                    ))
                })?;
                self.check(operand, Some(&Bson::Document(document)), false)
            }
            "$$matchAsRoot" => self.check(operand, Some(existing()?), true),
            _ => Err(Mismatch::new(format!("{operator} is unknown"))),
        }
    }

    fn named(
        &self,
        operator: &str,
        operand: &Bson,
        find: impl Fn(&str) -> Option<Bson>,
    ) -> Result<Bson, Mismatch> {
        let name = operand
            .as_str()
            .ok_or_else(|| malformed(operator, operand))?;
        find(name).ok_or_else(|| Mismatch::new(format!("{operator}: there is no entity {name}")))
    }
}

/// The operator that a document is, if it is one.
fn operator(expected: &Bson) -> Option<(&str, &Bson)> {
    let document = expected.as_document()?;
    let (key, operand) = document.iter().next()?;
    (document.len() == 1 && key.starts_with("$$")).then_some((key.as_str(), operand))
}

fn malformed(operator: &str, operand: &Bson) -> Mismatch {
    Mismatch::new(format!("{operator} cannot have the operand {operand}"))
}

fn existing_text(actual: Option<&Bson>) -> String {
    actual.map_or_else(String::new, ToString::to_string)
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => {
            let digit = |c: u8| char::from(c).to_digit(16);
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
        }
        _ => None,
    };
    pairs.map(byte).collect()
}

fn extended_json(text: &str) -> Option<Document> {
    let json: Value = serde_json::from_str(text).ok()?;
    match Bson::try_from(json).ok()? {
        Bson::Document(document) => Some(document),
        _ => None,
    }
}

/// Equal but for the width of a number; documents within other types are compared exactly, the
/// order of keys aside.
fn are_equal(expected: &Bson, actual: &Bson) -> bool {
    match compare_numbers(expected, actual) {
        Some(order) => order.is_eq(),
        None => sorted(expected) == sorted(actual),
    }
}

/// The order of two numbers; `None` if either is none. Decimals are no numbers in this sense.
#[expect(
    clippy::cast_precision_loss,
    reason = "only compared with another double"
)]
fn compare_numbers(left: &Bson, right: &Bson) -> Option<std::cmp::Ordering> {
    let integer = |value: &Bson| match value {
        Bson::Int32(value) => Some(i64::from(*value)),
        Bson::Int64(value) => Some(*value),
        _ => None,
    };
    let double = |value: &Bson| match value {
        Bson::Double(value) => Some(*value),
        other => integer(other).map(|value| value as f64),
    };
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => double(left)?.partial_cmp(&double(right)?),
    }
}

/// The same value with the keys of all documents in order.
pub(super) fn sorted(value: &Bson) -> Bson {
    match value {
        Bson::Document(document) => Bson::Document(sorted_document(document)),
        Bson::Array(elements) => elements.iter().map(sorted).collect::<Vec<_>>().into(),
        Bson::JavaScriptCodeWithScope(code) => {
            let mut code = code.clone();
            code.scope = sorted_document(&code.scope);
            Bson::JavaScriptCodeWithScope(code)
        }
        other => other.clone(),
    }
}

/// The same document with the keys of all documents in order.
pub(super) fn sorted_document(document: &Document) -> Document {
    let mut pairs: Vec<_> = document
        .iter()
        .map(|(key, value)| (key.clone(), sorted(value)))
        .collect();
    pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
    pairs.into_iter().collect()
}

/// The operand of `$$type` as a list.
fn types(operand: &Bson) -> Result<Vec<&str>, Mismatch> {
    let names = match operand {
        Bson::Array(names) => names.iter().map(Bson::as_str).collect(),
        name => name.as_str().map(|name| vec![name]),
    };
    names.ok_or_else(|| malformed("$$type", operand))
}

/// `number` is an alias for four types.
fn is_number(operand: &Bson, actual: &str) -> bool {
    let asked = types(operand).is_ok_and(|types| types.contains(&"number"));
    asked && ["int", "long", "double", "decimal"].contains(&actual)
}

/// The name of a value's type for the query operator `$type`.
fn type_name(value: &Bson) -> &'static str {
    match value {
        Bson::Double(_) => "double",
        Bson::String(_) => "string",
        Bson::Document(_) => "object",
        Bson::Array(_) => "array",
        Bson::Binary(_) => "binData",
        Bson::Undefined => "undefined",
        Bson::ObjectId(_) => "objectId",
        Bson::Boolean(_) => "bool",
        Bson::DateTime(_) => "date",
        Bson::Null => "null",
        Bson::RegularExpression(_) => "regex",
        Bson::DbPointer(_) => "dbPointer",
        Bson::JavaScriptCode(_) => "javascript",
        Bson::Symbol(_) => "symbol",
        Bson::JavaScriptCodeWithScope(_) => "javascriptWithScope",
        Bson::Int32(_) => "int",
        Bson::Timestamp(_) => "timestamp",
        Bson::Int64(_) => "long",
        Bson::Decimal128(_) => "decimal",
        Bson::MinKey => "minKey",
        Bson::MaxKey => "maxKey",
    }
}

#[cfg(test)]
mod tests;
