//! `unified-format/valid-fail`: cases that obey the format and must fail all the same.
//!
//! A runner that fails for a reason of its own would pass such a case by accident, so each is held
//! against a part of what its failure has to say.

/// File, the case or nothing for all of the file, and what the failure says.
#[rustfmt::skip]
const REASONS: &[(&str, &str, &str)] = &[
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
        Some((.., part)) if failure.contains(part) => Ok(()),
        Some((.., part)) => Err(format!("it had to fail with {part:?}, but said: {failure}")),
        None => Err(format!(
            "src/failing.rs does not say what this case has to fail with; it said: {failure}"
        )),
    }
}
