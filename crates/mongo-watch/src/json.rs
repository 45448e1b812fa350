//! Relaxed extended JSON, written straight from raw BSON (Extended JSON specification, v2).
//!
//! One document becomes one line: no line break is ever written, strings escape theirs. Text that
//! is not UTF-8, which servers take, is written with U+FFFD where it is not.

use std::io::{self, Write};

use base64::Engine as _;
use bson::RawBson;
use bson::raw::{RawArray, RawBsonRef, RawDocument, RawElement};
use time::OffsetDateTime;

/// Writes one document.
///
/// # Errors
/// The writer's, or [`io::ErrorKind::InvalidData`] where the document is not valid BSON.
pub(crate) fn write_document(out: &mut impl Write, document: &RawDocument) -> io::Result<()> {
    out.write_all(b"{")?;
    for (index, element) in document.iter_elements().enumerate() {
        let element = element.map_err(invalid)?;
        if index > 0 {
            out.write_all(b",")?;
        }
        write_string(out, element.key().as_str())?;
        out.write_all(b":")?;
        write_element(out, &element)?;
    }
    out.write_all(b"}")
}

fn write_array(out: &mut impl Write, array: &RawArray) -> io::Result<()> {
    let elements = RawDocument::from_bytes(array.as_bytes()).map_err(invalid)?;
    out.write_all(b"[")?;
    for (index, element) in elements.iter_elements().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        write_element(out, &element.map_err(invalid)?)?;
    }
    out.write_all(b"]")
}

fn write_element(out: &mut impl Write, element: &RawElement<'_>) -> io::Result<()> {
    match element.value() {
        Ok(value) => write_value(out, value),
        Err(_) => {
            let value = element.value_utf8_lossy().map_err(invalid)?;
            write_value(out, value.as_raw_bson_ref())
        }
    }
}

fn write_value(out: &mut impl Write, value: RawBsonRef<'_>) -> io::Result<()> {
    match value {
        RawBsonRef::Double(number) => write_double(out, number),
        RawBsonRef::String(text) => write_string(out, text),
        RawBsonRef::Document(document) => write_document(out, document),
        RawBsonRef::Array(array) => write_array(out, array),
        RawBsonRef::Boolean(value) => write!(out, "{value}"),
        RawBsonRef::Null => out.write_all(b"null"),
        RawBsonRef::Int32(number) => write!(out, "{number}"),
        RawBsonRef::Int64(number) => write!(out, "{number}"),
        RawBsonRef::ObjectId(id) => write!(out, r#"{{"$oid":"{id}"}}"#),
        RawBsonRef::DateTime(date) => write_date(out, date.timestamp_millis()),
        RawBsonRef::Timestamp(stamp) => {
            let (seconds, increment) = (stamp.time, stamp.increment);
            write!(out, r#"{{"$timestamp":{{"t":{seconds},"i":{increment}}}}}"#)
        }
        RawBsonRef::Decimal128(number) => write!(out, r#"{{"$numberDecimal":"{number}"}}"#),
        RawBsonRef::Binary(binary) => {
            let base64 = base64::engine::general_purpose::STANDARD.encode(binary.bytes);
            let subtype = u8::from(binary.subtype);
            write!(
                out,
                r#"{{"$binary":{{"base64":"{base64}","subType":"{subtype:02x}"}}}}"#
            )
        }
        other => write_rare(out, other),
    }
}

/// The types that documents of this century rarely hold.
fn write_rare(out: &mut impl Write, value: RawBsonRef<'_>) -> io::Result<()> {
    match value {
        RawBsonRef::RegularExpression(regex) => {
            out.write_all(br#"{"$regularExpression":{"pattern":"#)?;
            write_string(out, regex.pattern.as_str())?;
            out.write_all(br#","options":"#)?;
            write_string(out, regex.options.as_str())?;
            out.write_all(b"}}")
        }
        RawBsonRef::JavaScriptCode(code) => write_wrapped(out, "$code", code),
        RawBsonRef::Symbol(symbol) => write_wrapped(out, "$symbol", symbol),
        RawBsonRef::JavaScriptCodeWithScope(code) => {
            out.write_all(br#"{"$code":"#)?;
            write_string(out, code.code)?;
            out.write_all(br#","$scope":"#)?;
            write_document(out, code.scope)?;
            out.write_all(b"}")
        }
        RawBsonRef::DbPointer(_) => {
            // Its parts are only reachable through the owned form.
            let owned = bson::Bson::try_from(RawBson::from(value)).map_err(invalid)?;
            write!(out, "{}", owned.into_relaxed_extjson())
        }
        RawBsonRef::MinKey => out.write_all(br#"{"$minKey":1}"#),
        RawBsonRef::MaxKey => out.write_all(br#"{"$maxKey":1}"#),
        // `Undefined` is all that is left of the types BSON has.
        _ => out.write_all(br#"{"$undefined":true}"#),
    }
}

fn write_wrapped(out: &mut impl Write, key: &str, text: &str) -> io::Result<()> {
    write!(out, r#"{{"{key}":"#)?;
    write_string(out, text)?;
    out.write_all(b"}")
}

fn write_double(out: &mut impl Write, number: f64) -> io::Result<()> {
    if number.is_nan() {
        return out.write_all(br#"{"$numberDouble":"NaN"}"#);
    }
    if number.is_infinite() {
        let sign = if number > 0.0 { "" } else { "-" };
        return write!(out, r#"{{"$numberDouble":"{sign}Infinity"}}"#);
    }
    // `Debug` is the shortest form that reads back the same, and keeps a fraction on whole
    // numbers, so that a reader can tell a double from an integer.
    write!(out, "{number:?}")
}

/// RFC 3339 with milliseconds where they are not 0, for the years that the form is meant for.
fn write_date(out: &mut impl Write, millis: i64) -> io::Result<()> {
    let seconds = millis.div_euclid(1000);
    let fraction = millis.rem_euclid(1000);
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let Some(date) = date.filter(|date| (1970..=9999).contains(&date.year())) else {
        return write!(out, r#"{{"$date":{{"$numberLong":"{millis}"}}}}"#);
    };
    let (year, month, day) = date.to_calendar_date();
    let (hour, minute, second) = date.to_hms();
    let month = u8::from(month);
    write!(
        out,
        r#"{{"$date":"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"#
    )?;
    if fraction != 0 {
        write!(out, ".{fraction:03}")?;
    }
    out.write_all(br#"Z"}"#)
}

fn write_string(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    let mut clean_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1f => b"",
            _ => continue,
        };
        out.write_all(&text.as_bytes()[clean_from..at])?;
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}")?;
        } else {
            out.write_all(escape)?;
        }
        clean_from = at + 1;
    }
    out.write_all(&text.as_bytes()[clean_from..])?;
    out.write_all(b"\"")
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::spec::BinarySubtype;
    use bson::{
        Binary, Bson, DateTime, JavaScriptCodeWithScope, RawDocumentBuf, Regex, Timestamp, cstr,
        doc, rawdoc,
    };

    use super::*;

    fn line(document: &RawDocument) -> String {
        let mut out = Vec::new();
        write_document(&mut out, document).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_type_reads_back_as_what_it_was() {
        let original = doc! {
            "double": 1.5, "whole": 3.0, "tiny": 1e-300, "huge": 1e300, "negative zero": -0.0,
            "nan": f64::NAN, "minus infinity": f64::NEG_INFINITY,
            "string": "a\"b\\c\n\r\t\u{1}\u{7f}ü😀", "array": [1, "two", [3_i64]],
            "nested": { "a": { "b": {} } }, "yes": true, "null": null, "undefined": Bson::Undefined,
            "int": -1, "long": i64::MAX, "min": Bson::MinKey, "max": Bson::MaxKey,
            "oid": ObjectId::from_bytes([7; 12]), "when": DateTime::from_millis(1_700_000_000_123),
            "early": DateTime::from_millis(-1), "stamp": Timestamp { time: 7, increment: 9 },
            "binary": Binary { subtype: BinarySubtype::Uuid, bytes: vec![1, 2, 255] },
            "decimal": "1.50E+3".parse::<bson::Decimal128>().unwrap(),
            "regex": Regex { pattern: cstr!("^a\"b").into(), options: cstr!("im").into() },
            "symbol": Bson::Symbol("s".to_owned()), "code": Bson::JavaScriptCode("c()".to_owned()),
            "scoped": JavaScriptCodeWithScope { code: "d".to_owned(), scope: doc! { "x": 1 } },
        };
        let document = RawDocumentBuf::try_from(&original).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&line(&document)).unwrap();
        let back = Bson::try_from(parsed).unwrap();
        // Relaxed numbers narrow to the smallest integer type; all else is the same.
        let original = Bson::Document(original);
        assert_eq!(back.into_relaxed_extjson(), original.into_relaxed_extjson());
    }

    #[test]
    fn dates_have_milliseconds_only_where_they_are_not_zero() {
        for (millis, expected) in [
            (0, r#"{"d":{"$date":"1970-01-01T00:00:00Z"}}"#),
            (
                1_356_351_330_501,
                r#"{"d":{"$date":"2012-12-24T12:15:30.501Z"}}"#,
            ),
            (
                1_356_351_330_100,
                r#"{"d":{"$date":"2012-12-24T12:15:30.100Z"}}"#,
            ),
            (
                -284_643_869_501,
                r#"{"d":{"$date":{"$numberLong":"-284643869501"}}}"#,
            ),
            (
                253_402_300_800_000,
                r#"{"d":{"$date":{"$numberLong":"253402300800000"}}}"#,
            ),
        ] {
            let document = rawdoc! { "d": DateTime::from_millis(millis) };
            assert_eq!(line(&document), expected);
        }
    }

    #[test]
    fn text_that_is_no_utf8_is_written_all_the_same() {
        let mut bytes = rawdoc! { "a": "x?y", "b": ["?"], "c": 1 }.into_bytes();
        for byte in &mut bytes {
            if *byte == b'?' {
                *byte = 0xff;
            }
        }
        let document = RawDocumentBuf::from_bytes(bytes).unwrap();
        assert_eq!(
            line(&document),
            "{\"a\":\"x\u{fffd}y\",\"b\":[\"\u{fffd}\"],\"c\":1}"
        );
    }

    #[test]
    fn a_line_never_breaks() {
        assert!(!line(&rawdoc! { "a\nb": "c\r\nd" }).contains(['\n', '\r']));
    }
}
