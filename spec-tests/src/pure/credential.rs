//! `auth/legacy`: a URI and the credential it asks for.

use anyhow::{Result, ensure};
use mongo_uri::{AuthMechanism, Credential};
use serde_json::{Value, json};

use super::uri::parse_as_expected;
use super::uri_options::{check_properties, properties};
use crate::case::{Case, one_per_test};
use crate::dir::SpecDir;
use crate::json::expect_equal;

/// Loads the cases.
pub fn cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_test(dir, suite, |test| {
        let Some(parsed) = parse_as_expected(test)? else {
            return Ok(());
        };
        match (test.get("credential"), &parsed.credential) {
            // A missing key asserts nothing.
            (None, _) => Ok(()),
            (Some(Value::Null), credential) => {
                ensure!(
                    credential.is_none(),
                    "expected no credential, got {credential:?}"
                );
                Ok(())
            }
            (Some(expected), Some(credential)) => check(credential, expected),
            (Some(expected), None) => anyhow::bail!("expected {expected}, got no credential"),
        }
    })
}

/// A null stands for a value that is not set, and for a mechanism that is to be negotiated.
fn check(credential: &Credential, expected: &Value) -> Result<()> {
    let password = credential.password.as_ref().map(|secret| secret.expose());
    let actual = [
        ("username", json!(credential.username)),
        ("password", json!(password)),
        ("source", json!(credential.source)),
        (
            "mechanism",
            json!(credential.mechanism.map(AuthMechanism::as_str)),
        ),
    ];
    for (key, actual) in &actual {
        if let Some(expected) = expected.get(key) {
            expect_equal(key, actual, expected)?;
        }
    }
    let actual = properties(&credential.properties);
    match expected.get("mechanism_properties") {
        None => Ok(()),
        Some(Value::Null) => expect_equal("mechanism_properties", &actual, &json!({})),
        Some(expected) => check_properties(&actual, expected),
    }
}
