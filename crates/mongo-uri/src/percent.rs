//! Percent-encoding of the parts of a connection string (RFC 3986, section 2.1).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::Problem;

/// Kept as they are in a part: the unreserved characters.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Kept as they are in an option's value: also what reads better plain and separates nothing there.
const OPTION_VALUE: AsciiSet = UNRESERVED
    .remove(b':')
    .remove(b',')
    .remove(b'/')
    .remove(b'$')
    .remove(b'*')
    .remove(b'@');

/// Encodes user names, hosts and database names.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, &UNRESERVED).to_string()
}

/// Encodes an option's value. Commas and colons stay, for they separate lists and pairs there.
pub(crate) fn encode_option_value(text: &str) -> String {
    utf8_percent_encode(text, &OPTION_VALUE).to_string()
}

/// Decodes `text`; the error is the offset within `text` and what is wrong there.
pub(crate) fn decode(text: &str) -> Result<String, (usize, Problem)> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let escape = bytes.get(at + 1..at + 3);
        if !escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err((at, Problem::PercentEscape));
        }
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err((0, Problem::NotUtf8)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_broken_escape_is_found_where_it_stands() {
        for (text, at) in [
            ("%", 0),
            ("ab%2", 2),
            ("ab%zz", 2),
            ("%41%4", 3),
            ("a%+1", 1),
        ] {
            assert_eq!(decode(text), Err((at, Problem::PercentEscape)), "{text}");
        }
        assert_eq!(decode("%ff"), Err((0, Problem::NotUtf8)));
    }

    #[test]
    fn a_plus_stays_a_plus() {
        assert_eq!(decode("a+b%20c").as_deref(), Ok("a+b c"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(text in "\\PC*|[ -~]*") {
            prop_assert_eq!(decode(&encode(&text)), Ok(text.clone()));
            prop_assert_eq!(decode(&encode_option_value(&text)), Ok(text));
        }

        #[test]
        fn decoding_never_panics(text in any::<String>()) {
            let _ = decode(&text);
        }
    }
}
