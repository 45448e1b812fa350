//! What is written, against what reads it.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{
    Binary, Bson, DateTime, JavaScriptCodeWithScope, RawDocumentBuf, Regex, Timestamp, cstr, doc,
    rawdoc,
};

use super::*;

fn line(document: &RawDocument) -> String {
    let mut out = String::new();
    Json::relaxed(document).write_to(&mut out).unwrap();
    out
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
    let read = |text: &str| -> Bson {
        let parsed: serde_json::Value = serde_json::from_str(text).unwrap();
        Bson::try_from(parsed).unwrap()
    };
    let back = read(&line(&document));
    // Relaxed numbers narrow to the smallest integer type; all else is the same.
    let original = Bson::Document(original);
    assert_eq!(
        back.into_relaxed_extjson(),
        original.clone().into_relaxed_extjson()
    );
    let back = read(&Json::canonical(&document).to_string());
    assert_eq!(
        back.into_canonical_extjson(),
        original.into_canonical_extjson()
    );
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

#[test]
fn canonical_values_keep_their_type() {
    let document = rawdoc! { "a": 1, "b": 2_i64, "c": 3.0, "d": DateTime::from_millis(1_000) };
    assert_eq!(
        Json::canonical(&document).to_string(),
        concat!(
            r#"{"a":{"$numberInt":"1"},"b":{"$numberLong":"2"},"c":{"$numberDouble":"3.0"},"#,
            r#""d":{"$date":{"$numberLong":"1000"}}}"#
        )
    );
}

#[test]
fn a_pointer_to_another_database_is_taken_apart() {
    let mut bytes = b"\0\0\0\0\x0cp\0\x04\0\0\0a.b\0".to_vec();
    bytes.extend([7; 12]);
    bytes.push(0);
    bytes[0] = u8::try_from(bytes.len()).unwrap();
    let document = RawDocumentBuf::from_bytes(bytes).unwrap();
    assert_eq!(
        line(&document),
        r#"{"p":{"$dbPointer":{"$ref":"a.b","$id":{"$oid":"070707070707070707070707"}}}}"#
    );
}

#[test]
fn what_is_no_bson_is_an_error_and_shown_as_far_as_it_goes() {
    let mut bytes = rawdoc! { "a": 1, "b": "text" }.into_bytes();
    let at = bytes.len() - 10;
    bytes[at] = 200;
    let document = RawDocumentBuf::from_bytes(bytes).unwrap();
    let result = Json::relaxed(&document).write_to(&mut String::new());
    assert!(matches!(result, Err(JsonError::Malformed(_))), "{result:?}");
    let shown = Json::relaxed(&document).to_string();
    assert!(
        shown.starts_with(r#"{"a":1"#) && shown.contains("no valid BSON"),
        "{shown}"
    );
}

#[test]
fn what_is_nested_too_deep_is_refused_before_the_stack_is_used_up() {
    let nested = |levels: usize| {
        let mut bytes = vec![5, 0, 0, 0, 0];
        for _ in 1..levels {
            let length = i32::try_from(bytes.len() + 4 + 1 + 2 + 1).unwrap();
            let mut outer = length.to_le_bytes().to_vec();
            outer.extend(b"\x03a\0");
            outer.extend(&bytes);
            outer.push(0);
            bytes = outer;
        }
        RawDocumentBuf::from_bytes(bytes).unwrap()
    };
    let mut out = String::new();
    Json::relaxed(&nested(200)).write_to(&mut out).unwrap();
    assert!(out.ends_with(&"}".repeat(200)));
    for levels in [201, 5_000] {
        let document = nested(levels);
        let error = Json::relaxed(&document).write_to(&mut String::new());
        assert!(matches!(error, Err(JsonError::TooDeep)), "{levels}");
        assert!(Json::relaxed(&document).to_string().ends_with("deep)"));
    }
}
