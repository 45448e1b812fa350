//! `connection-string` and `uri-options`: a URI, whether it is valid, and what it means.

use anyhow::{Result, ensure};
use mongo_uri::ConnectionString;
use serde_json::Value;

use crate::case::{Case, one_per_test};
use crate::dir::SpecDir;
use crate::json::{field, text};

/// Loads the cases.
pub fn cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_test(dir, suite, run)
}

fn run(test: &Value) -> Result<()> {
    let parsed = ConnectionString::parse(text(test, "uri")?);
    let valid = field(test, "valid")? == true;
    ensure!(
        parsed.is_ok() == valid,
        "expected valid: {valid}, got {parsed:?}"
    );
    Ok(())
}
