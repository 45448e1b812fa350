//! Reading the tests' JSON.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bson::{Bson, RawDocumentBuf};
use serde_json::Value;

/// Reads a file.
pub fn load(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// The value of a key that must be there.
pub fn field<'a>(object: &'a Value, key: &str) -> Result<&'a Value> {
    object
        .get(key)
        .with_context(|| format!("{key} is missing in {object}"))
}

/// The value of a key, or `None` if it is missing or null, which mostly means "assert nothing".
pub fn given<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// A string that must be there.
pub fn text<'a>(object: &'a Value, key: &str) -> Result<&'a str> {
    field(object, key)?
        .as_str()
        .with_context(|| format!("{key} is no string in {object}"))
}

/// Reads extended JSON (both modes) as BSON.
pub fn bson(json: &Value) -> Result<Bson> {
    Bson::try_from(json.clone()).with_context(|| format!("no extended JSON: {json}"))
}

/// Reads an extended JSON object as a BSON document.
pub fn document(json: &Value) -> Result<RawDocumentBuf> {
    match bson(json)? {
        Bson::Document(document) => Ok(RawDocumentBuf::try_from(&document)?),
        other => bail!("no document: {other}"),
    }
}

/// Fails with both values unless they are equal.
pub fn expect_equal<T>(what: &str, actual: &T, expected: &T) -> Result<()>
where
    T: PartialEq + std::fmt::Debug + ?Sized,
{
    ensure!(
        actual == expected,
        "{what}: expected {expected:?}, got {actual:?}"
    );
    Ok(())
}
