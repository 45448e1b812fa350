//! Documents in records: extended JSON that is not written further than it is shown (Logging,
//! "Configurable Max Document Length").

use std::fmt::{self, Write};

use bson::RawDocument;
use mongo_wire::{Json, JsonError};

/// A document in so many characters at most, and `...` where there would be more.
pub(crate) fn shortened(document: &RawDocument, max_length: usize) -> String {
    let mut text = Bounded {
        text: String::new(),
        left: max_length,
    };
    match Json::relaxed(document).write_to(&mut text) {
        Ok(()) => {}
        Err(JsonError::Malformed(_)) => text.text.push_str(" (no valid BSON)"),
        // It is full.
        Err(_) => text.text.push_str("..."),
    }
    text.text
}

/// Takes so many characters and then no more.
struct Bounded {
    text: String,
    left: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match text.char_indices().nth(self.left) {
            None => {
                self.text.push_str(text);
                self.left -= text.chars().count();
                Ok(())
            }
            Some((end, _)) => {
                self.text.push_str(&text[..end]);
                self.left = 0;
                Err(fmt::Error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_document_is_cut_off_between_characters() {
        let document = rawdoc! { "ä": "öü😀x" };
        let whole = "{\"ä\":\"öü😀x\"}";
        let length = whole.chars().count();
        assert_eq!(shortened(&document, length), whole);
        assert_eq!(shortened(&document, usize::MAX), whole);
        for max_length in 0..length {
            let cut: String = whole.chars().take(max_length).collect();
            assert_eq!(shortened(&document, max_length), cut + "...");
        }
    }

    #[test]
    fn a_document_that_is_no_bson_is_shown_as_far_as_it_goes() {
        let mut bytes = rawdoc! { "a": 1, "b": "text" }.into_bytes();
        let at = bytes.len() - 10;
        bytes[at] = 200;
        let document = bson::RawDocumentBuf::from_bytes(bytes).unwrap();
        assert!(shortened(&document, 100).ends_with("(no valid BSON)"));
    }
}
