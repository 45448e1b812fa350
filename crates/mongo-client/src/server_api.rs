//! The Stable API: which behaviour of the server a client relies on (Versioned API specification).

use bson::{RawDocumentBuf, cstr, rawdoc};

/// A version of the Stable API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerApiVersion {
    /// `1`, which servers know since 5.0.
    V1,
}

impl ServerApiVersion {
    /// The version as commands carry it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "1",
        }
    }
}

/// What every command of a client declares about the Stable API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerApi {
    /// `apiVersion`.
    pub version: ServerApiVersion,
    /// `apiStrict`: the server refuses what the version does not have. Not sent unless set.
    pub strict: Option<bool>,
    /// `apiDeprecationErrors`: the server refuses what is deprecated. Not sent unless set.
    pub deprecation_errors: Option<bool>,
}

impl ServerApi {
    /// A version, and what the server does by default.
    #[must_use]
    pub fn new(version: ServerApiVersion) -> Self {
        Self {
            version,
            strict: None,
            deprecation_errors: None,
        }
    }

    /// The elements that go beside every command.
    pub(crate) fn elements(&self) -> RawDocumentBuf {
        let mut elements = rawdoc! { "apiVersion": self.version.as_str() };
        if let Some(strict) = self.strict {
            elements.append(cstr!("apiStrict"), strict);
        }
        if let Some(errors) = self.deprecation_errors {
            elements.append(cstr!("apiDeprecationErrors"), errors);
        }
        elements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_is_declared() {
        let mut api = ServerApi::new(ServerApiVersion::V1);
        assert_eq!(api.elements(), rawdoc! { "apiVersion": "1" });
        api.strict = Some(false);
        api.deprecation_errors = Some(true);
        let expected = rawdoc! {
            "apiVersion": "1", "apiStrict": false, "apiDeprecationErrors": true,
        };
        assert_eq!(api.elements(), expected);
    }
}
