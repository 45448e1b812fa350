//! `unified-format/valid-fail`: cases that obey the format and must fail all the same.
//!
//! A runner that fails for a reason of its own would pass such a case by accident, so each is held
//! against a part of what its failure has to say.

/// File, the case or nothing for all of the file, and what the failure says.
#[rustfmt::skip]
const REASONS: &[(&str, &str, &str)] = &[
    ("assertNumberConnectionsCheckedOut", "operation fails if client field is not specified", "the argument client is missing"),
    ("assertNumberConnectionsCheckedOut", "operation fails if connections field is not specified", "the argument connections is missing"),
    ("assertNumberConnectionsCheckedOut", "operation fails if client entity does not exist", "there is no entity client1"),
    ("assertNumberConnectionsCheckedOut", "operation fails if number of connections is incorrect", "0 connections are checked out, not 1"),
    ("entity-bucket-database-undefined", "", "there is no entity foo"),
    ("entity-client-apiVersion-unsupported", "", "the server API version \"server_will_never_support_this_api_version\" is unknown"),
    ("entity-collection-database-undefined", "", "there is no entity foo"),
    ("entity-database-client-undefined", "", "there is no entity foo"),
    ("entity-session-client-undefined", "", "there is no entity foo"),
    ("entity-findCursor", "", "there is no entity cursor0"),
    ("entity-findCursor-malformed", "", "the argument filter is missing"),
    ("ignoreResultAndError", "", "no error was expected: E11000 duplicate key error"),
    ("ignoreResultAndError-malformed", "", "the argument document is missing"),
    ("operation-failure", "Unsupported command", "(CommandNotFound)"),
    ("operation-failure", "Unsupported query operator", "unknown top level operator: $unsupportedQueryOperator"),
    ("operation-unsupported", "", "has no operation unsupportedOperation"),
    ("operator-matchAsDocument", "matchAsDocument with non-matching filter", "[0].json.y: expected \"two\", got 2"),
    ("operator-matchAsDocument", "matchAsDocument evaluates special operators", "[0].json.y: $$exists false does not hold"),
    ("operator-matchAsDocument", "matchAsDocument does not permit extra fields", "[0].json: y is not expected"),
    ("operator-matchAsDocument", "", "is no document in extended JSON"),
    ("operator-matchAsRoot", "", "[0].x.y: expected 3, got 2"),
    ("returnDocument-enum-invalid", "", "returnDocument cannot be \"invalid\""),
    ("schemaVersion-unsupported", "", "schema version 0.1.0 is not understood"),
];

/// Whether the failure of a case is the one that it is there for.
///
/// # Errors
/// What it should have said, or that nothing is known of such a case.
pub fn check(file: &str, case: &str, failure: &str) -> Result<(), String> {
    let known = REASONS
        .iter()
        .find(|(name, wanted, _)| *name == file && (wanted.is_empty() || *wanted == case));
    match known {
        Some((.., part)) if says(failure, part) => Ok(()),
        Some((.., part)) => Err(format!("it had to fail with {part:?}, but said: {failure}")),
        None => Err(format!(
            "src/failing.rs does not say what this case has to fail with; it said: {failure}"
        )),
    }
}

/// Whether a failure says this; what follows its first line is a diff or an event log.
#[must_use]
pub fn says(failure: &str, part: &str) -> bool {
    let told = failure.lines().next();
    told.is_some_and(|told| told.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_to_fail_for_its_own_reason() {
        let file = "operator-matchAsRoot";
        assert!(check(file, "any", "result: [0].x.y: expected 3, got 2\n- 3").is_ok());
        for wrong in ["", "no connection", "none\n[0].x.y: expected 3, got 2"] {
            assert!(check(file, "any", wrong).is_err(), "{wrong:?}");
        }
        assert!(check("unheard-of", "any", "[0].x.y: expected 3, got 2").is_err());
    }
}
