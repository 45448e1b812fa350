//! `read-write-concern`: concerns in a URI, and the documents that servers get of them.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bson::Document;
use mongo_uri::{Acknowledgment, ReadConcern, ReadConcernLevel, WriteConcern};
use serde_json::{Map, Value, json};

use super::uri::parse_as_expected;
use super::uri_options;
use crate::case::{Case, one_per_test};
use crate::dir::SpecDir;
use crate::json::{document as from_json, expect_equal, field, given};

/// Loads the cases about URIs.
pub fn connection_string_cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_test(dir, suite, |test| {
        let Some(parsed) = parse_as_expected(test)? else {
            return Ok(());
        };
        if let Some(expected) = given(test, "readConcern") {
            let concern = parsed.options.read_concern.unwrap_or_default();
            let level = concern.level.as_ref().map(|level| level.as_str());
            expect_equal("readConcern", &set([("level", json!(level))]), expected)?;
        }
        if let Some(expected) = given(test, "writeConcern") {
            let concern = parsed.options.write_concern.unwrap_or_default();
            let timeout = concern
                .w_timeout
                .map(|timeout| u64::try_from(timeout.as_millis()).ok());
            let w = uri_options::w(&concern);
            let members = [
                ("w", w),
                ("journal", json!(concern.journal)),
                ("wtimeoutMS", json!(timeout)),
            ];
            expect_equal("writeConcern", &set(members), expected)?;
        }
        Ok(())
    })
}

/// An object of the members that are not null.
fn set<const N: usize>(members: [(&str, Value); N]) -> Value {
    let set = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        set.map(|(key, value)| (key.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

/// Loads the cases about documents.
pub fn document_cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_test(dir, suite, |test| match given(test, "readConcern") {
        Some(concern) => read_document(test, concern),
        None => write_document(test, field(test, "writeConcern")?),
    })
}

fn read_document(test: &Value, concern: &Value) -> Result<()> {
    let level = concern
        .get("level")
        .and_then(Value::as_str)
        .map(ReadConcernLevel::from);
    let concern = ReadConcern { level };
    let document = Document::try_from(concern.to_document())?;
    expect_equal(
        "readConcernDocument",
        &document,
        &Document::try_from(from_json(field(test, "readConcernDocument")?)?)?,
    )?;
    let default = json!(concern.is_server_default());
    expect_equal("isServerDefault", &default, field(test, "isServerDefault")?)
}

fn write_document(test: &Value, concern: &Value) -> Result<()> {
    let concern = write_concern(concern).and_then(|concern| {
        concern.validate()?;
        Ok(concern)
    });
    if field(test, "valid")? == false {
        ensure!(
            concern.is_err(),
            "expected an invalid concern, got {concern:?}"
        );
        return Ok(());
    }
    let concern = concern?;
    let document = Document::try_from(concern.to_document())?;
    expect_equal(
        "writeConcernDocument",
        &document,
        &Document::try_from(from_json(field(test, "writeConcernDocument")?)?)?,
    )?;
    let default = json!(concern.is_server_default());
    expect_equal("isServerDefault", &default, field(test, "isServerDefault")?)?;
    let acknowledged = json!(concern.is_acknowledged());
    expect_equal(
        "isAcknowledged",
        &acknowledged,
        field(test, "isAcknowledged")?,
    )
}

/// The concern, unless it holds a number that the types refuse to hold.
fn write_concern(json: &Value) -> Result<WriteConcern> {
    let w = match json.get("w") {
        None => None,
        Some(Value::String(mode)) => Some(Acknowledgment::from(mode.as_str())),
        Some(nodes) => Some(Acknowledgment::Nodes(u32::try_from(integer(nodes)?)?)),
    };
    let w_timeout = match json.get("wtimeoutMS") {
        None => None,
        Some(millis) => Some(Duration::from_millis(u64::try_from(integer(millis)?)?)),
    };
    let journal = match json.get("journal") {
        None => None,
        Some(Value::Bool(journal)) => Some(*journal),
        Some(other) => bail!("journal is no boolean: {other}"),
    };
    Ok(WriteConcern {
        w,
        journal,
        w_timeout,
    })
}

fn integer(json: &Value) -> Result<i64> {
    json.as_i64().with_context(|| format!("no integer: {json}"))
}
