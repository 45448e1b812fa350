//! One operation of a case.

use bson::{Bson, Document};
use serde::Deserialize;

use super::expectation::ExpectedError;
use super::value::{Ejson, EjsonDocument, present};

/// An operation and what is expected of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Fields")]
pub(in crate::unified) struct Operation {
    pub(in crate::unified) name: String,
    pub(in crate::unified) object: String,
    pub(in crate::unified) arguments: Document,
    pub(in crate::unified) expected: Expected,
    pub(in crate::unified) save_as: Option<String>,
}

const EXCLUSIVE: &str = "of expectError, expectResult and saveResultAsEntity, only the last two go \
                         together; ignoreResultAndError goes with none of them";

/// What an operation is to end with.
#[derive(Clone, Debug)]
pub(in crate::unified) enum Expected {
    /// Success; if there is a value, its result matches it.
    Result(Option<Bson>),
    Error(Box<ExpectedError>),
    /// Either.
    Anything,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Fields {
    name: String,
    object: String,
    #[serde(default)]
    arguments: EjsonDocument,
    #[serde(default, deserialize_with = "present")]
    ignore_result_and_error: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    expect_error: Option<ExpectedError>,
    #[serde(default, deserialize_with = "present")]
    expect_result: Option<Ejson>,
    #[serde(default, deserialize_with = "present")]
    save_result_as_entity: Option<String>,
}

impl TryFrom<Fields> for Operation {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let saves = fields.save_result_as_entity.is_some();
        let given = (
            fields.ignore_result_and_error,
            fields.expect_error,
            fields.expect_result,
        );
        let expected = match given {
            (None, None, result) => Expected::Result(result.map(|Ejson(result)| result)),
            (None, Some(error), None) if !saves => Expected::Error(Box::new(error)),
            (Some(false), None, None) if !saves => Expected::Result(None),
            (Some(true), None, None) if !saves => Expected::Anything,
            _ => return Err(EXCLUSIVE.to_owned()),
        };
        Ok(Self {
            name: fields.name,
            object: fields.object,
            arguments: fields.arguments.0,
            expected,
            save_as: fields.save_result_as_entity,
        })
    }
}
