//! Text that is a slice of a message.

use std::{fmt, ops::Deref};

use bytes::Bytes;

/// UTF-8 text inside a shared buffer: a clone costs a reference count, not a copy.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteStr(Bytes);

impl ByteStr {
    /// Text that lives as long as the program.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Takes bytes over as text.
    ///
    /// # Errors
    /// When they are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when the value was made")
    }

    /// The text's bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// `part` must lie within `whole`.
    pub(crate) fn within(whole: &Bytes, part: &str) -> Self {
        Self(whole.slice_ref(part.as_bytes()))
    }
}

impl Deref for ByteStr {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for ByteStr {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for ByteStr {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&str> for ByteStr {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<ByteStr> for String {
    fn from(text: ByteStr) -> Self {
        text.as_str().to_owned()
    }
}

impl PartialEq<str> for ByteStr {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for ByteStr {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_compares_shows_and_sorts_as_a_string() {
        let text = ByteStr::from("d.c");
        assert_eq!((text == "d.c", text == *"d.d"), (true, false));
        assert_eq!(
            (format!("{text:>5}"), format!("{text:?}")),
            ("  d.c".into(), "\"d.c\"".into())
        );
        assert!(text < ByteStr::from_static("d.d") && text.starts_with("d."));
        assert_eq!(String::from(text), "d.c");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert!(ByteStr::from_utf8(Bytes::from_static(b"a\xff")).is_err());
        assert_eq!(ByteStr::from_utf8(Bytes::from_static(b"a")), Ok("a".into()));
    }
}
