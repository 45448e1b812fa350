//! A string that neither `Debug` nor `Display` ever shows.

use std::fmt;

use zeroize::Zeroize as _;

/// What stands in the place of a secret wherever something is shown.
pub const REDACTED: &str = "***";

/// A password, token or key. `Debug` shows [`REDACTED`]; [`Secret::expose`] is the one way to the
/// text. Its memory is wiped when it is dropped; the connection string it was parsed from is not.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps the plain text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The plain text; whoever calls this takes care that it reaches no log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_text() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some(***)");
    }
}
