//! Extended JSON, relaxed or canonical, written straight from raw BSON (Extended JSON
//! specification, v2).
//!
//! One document becomes one line: no line break is ever written, strings escape theirs. Text that
//! is not UTF-8, which servers take, is written with U+FFFD where it is not; a key that is not is
//! no valid BSON.

#[cfg(test)]
mod tests;

use std::fmt::{self, Write};

use base64::Engine as _;
use bson::raw::{RawArray, RawBsonRef, RawDocument, RawElement};
use bson::{RawBson, cstr};
use time::OffsetDateTime;

/// A document to be written as extended JSON.
///
/// `Display` writes what is no valid BSON up to there, with a remark; [`write_to`](Self::write_to)
/// says that it is not valid.
///
/// ```
/// use bson::rawdoc;
/// use mongo_wire::Json;
///
/// let document = rawdoc! { "n": 1_i64, "x": 0.5 };
/// assert_eq!(Json::relaxed(&document).to_string(), r#"{"n":1,"x":0.5}"#);
/// assert_eq!(
///     Json::canonical(&document).to_string(),
///     r#"{"n":{"$numberLong":"1"},"x":{"$numberDouble":"0.5"}}"#
/// );
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Json<'a> {
    document: &'a RawDocument,
    form: Form,
}

/// How numbers and dates are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As JSON's own numbers, and dates as RFC 3339 says.
    Relaxed,
    /// With their type.
    Canonical,
}

/// How deep documents and arrays may be nested; servers take no more than 180.
const DEEPEST: usize = 200;

/// Why a document was not written to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The document is no valid BSON.
    #[error("the document is no valid BSON: {0}")]
    Malformed(#[source] bson::error::Error),
    /// Documents and arrays are nested deeper than any server takes.
    #[error("the document is nested more than {DEEPEST} levels deep")]
    TooDeep,
    /// The writer wants no more.
    #[error("the writer failed")]
    Writer(#[from] fmt::Error),
}

impl<'a> Json<'a> {
    /// For people: numbers are plain numbers.
    #[must_use]
    pub const fn relaxed(document: &'a RawDocument) -> Self {
        let form = Form::Relaxed;
        Self { document, form }
    }

    /// For programs: every value reads back as the type that it was.
    #[must_use]
    pub const fn canonical(document: &'a RawDocument) -> Self {
        let form = Form::Canonical;
        Self { document, form }
    }

    /// Writes the document, up to where it is no valid BSON.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn write_to(&self, out: &mut impl Write) -> Result<(), JsonError> {
        let form = self.form;
        let depth = 0;
        Writer { out, form, depth }.document(self.document)
    }
}

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.write_to(f) {
            Ok(()) => Ok(()),
            Err(JsonError::Malformed(error)) => write!(f, " (no valid BSON: {error})"),
            Err(error @ JsonError::TooDeep) => write!(f, " ({error})"),
            Err(JsonError::Writer(error)) => Err(error),
        }
    }
}

struct Writer<'a, W> {
    out: &'a mut W,
    form: Form,
    /// Documents and arrays that are open.
    depth: usize,
}

impl<W: Write> Writer<'_, W> {
    fn document(&mut self, document: &RawDocument) -> Result<(), JsonError> {
        self.descend()?;
        self.out.write_char('{')?;
        for (index, element) in document.iter_elements().enumerate() {
            let element = element.map_err(JsonError::Malformed)?;
            if index > 0 {
                self.out.write_char(',')?;
            }
            self.string(element.key().as_str())?;
            self.out.write_char(':')?;
            self.element(&element)?;
        }
        self.depth -= 1;
        Ok(self.out.write_char('}')?)
    }

    fn array(&mut self, array: &RawArray) -> Result<(), JsonError> {
        let elements = RawDocument::from_bytes(array.as_bytes()).map_err(JsonError::Malformed)?;
        self.descend()?;
        self.out.write_char('[')?;
        for (index, element) in elements.iter_elements().enumerate() {
            if index > 0 {
                self.out.write_char(',')?;
            }
            self.element(&element.map_err(JsonError::Malformed)?)?;
        }
        self.depth -= 1;
        Ok(self.out.write_char(']')?)
    }

    /// One level deeper: what a peer sends must not use up the stack.
    fn descend(&mut self) -> Result<(), JsonError> {
        if self.depth == DEEPEST {
            return Err(JsonError::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    fn element(&mut self, element: &RawElement<'_>) -> Result<(), JsonError> {
        match element.value() {
            Ok(value) => self.value(value),
            Err(_) => {
                let value = element.value_utf8_lossy().map_err(JsonError::Malformed)?;
                self.value(value.as_raw_bson_ref())
            }
        }
    }

    fn value(&mut self, value: RawBsonRef<'_>) -> Result<(), JsonError> {
        let out = &mut *self.out;
        match value {
            RawBsonRef::Double(number) => self.double(number)?,
            RawBsonRef::String(text) => self.string(text)?,
            RawBsonRef::Document(document) => self.document(document)?,
            RawBsonRef::Array(array) => self.array(array)?,
            RawBsonRef::Boolean(value) => write!(out, "{value}")?,
            RawBsonRef::Null => out.write_str("null")?,
            RawBsonRef::Int32(number) => match self.form {
                Form::Relaxed => write!(out, "{number}")?,
                Form::Canonical => write!(out, r#"{{"$numberInt":"{number}"}}"#)?,
            },
            RawBsonRef::Int64(number) => match self.form {
                Form::Relaxed => write!(out, "{number}")?,
                Form::Canonical => write!(out, r#"{{"$numberLong":"{number}"}}"#)?,
            },
            RawBsonRef::ObjectId(id) => write!(out, r#"{{"$oid":"{id}"}}"#)?,
            RawBsonRef::DateTime(date) => self.date(date.timestamp_millis())?,
            RawBsonRef::Timestamp(stamp) => {
                let (seconds, increment) = (stamp.time, stamp.increment);
                write!(out, r#"{{"$timestamp":{{"t":{seconds},"i":{increment}}}}}"#)?;
            }
            RawBsonRef::Decimal128(number) => write!(out, r#"{{"$numberDecimal":"{number}"}}"#)?,
            RawBsonRef::Binary(binary) => {
                let base64 = base64::engine::general_purpose::STANDARD.encode(binary.bytes);
                let subtype = u8::from(binary.subtype);
                write!(
                    out,
                    r#"{{"$binary":{{"base64":"{base64}","subType":"{subtype:02x}"}}}}"#
                )?;
            }
            other => self.rare(other)?,
        }
        Ok(())
    }

    /// The types that documents of this century rarely hold.
    fn rare(&mut self, value: RawBsonRef<'_>) -> Result<(), JsonError> {
        match value {
            RawBsonRef::RegularExpression(regex) => {
                self.out.write_str(r#"{"$regularExpression":{"pattern":"#)?;
                self.string(regex.pattern.as_str())?;
                self.out.write_str(r#","options":"#)?;
                self.string(regex.options.as_str())?;
                self.out.write_str("}}")?;
            }
            RawBsonRef::JavaScriptCode(code) => self.wrapped("$code", code)?,
            RawBsonRef::Symbol(symbol) => self.wrapped("$symbol", symbol)?,
            RawBsonRef::JavaScriptCodeWithScope(code) => {
                self.out.write_str(r#"{"$code":"#)?;
                self.string(code.code)?;
                self.out.write_str(r#","$scope":"#)?;
                self.document(code.scope)?;
                self.out.write_char('}')?;
            }
            RawBsonRef::DbPointer(_) => self.pointer(value)?,
            RawBsonRef::MinKey => self.out.write_str(r#"{"$minKey":1}"#)?,
            RawBsonRef::MaxKey => self.out.write_str(r#"{"$maxKey":1}"#)?,
            // `Undefined` is all that is left of the types BSON has.
            _ => self.out.write_str(r#"{"$undefined":true}"#)?,
        }
        Ok(())
    }

    fn wrapped(&mut self, key: &str, text: &str) -> fmt::Result {
        write!(self.out, r#"{{"{key}":"#)?;
        self.string(text)?;
        self.out.write_char('}')
    }

    /// Its parts are nowhere to be had but in its bytes: length, text, 0, and 12 bytes of an id.
    fn pointer(&mut self, pointer: RawBsonRef<'_>) -> fmt::Result {
        // Before the text: the length of the document, a type, an empty key, the length of the text.
        const BEFORE_TEXT: usize = 4 + 1 + 1 + 4;
        let mut alone = bson::RawDocumentBuf::new();
        alone.append(cstr!(""), RawBson::from(pointer));
        let bytes = alone.as_bytes();
        let id_at = bytes.len() - 1 - 12;
        let text = String::from_utf8_lossy(&bytes[BEFORE_TEXT..id_at - 1]);
        self.out.write_str(r#"{"$dbPointer":{"$ref":"#)?;
        self.string(&text)?;
        self.out.write_str(r#","$id":{"$oid":""#)?;
        for byte in &bytes[id_at..id_at + 12] {
            write!(self.out, "{byte:02x}")?;
        }
        self.out.write_str(r#""}}}"#)
    }

    fn double(&mut self, number: f64) -> fmt::Result {
        if number.is_nan() {
            return self.out.write_str(r#"{"$numberDouble":"NaN"}"#);
        }
        if number.is_infinite() {
            let sign = if number > 0.0 { "" } else { "-" };
            return write!(self.out, r#"{{"$numberDouble":"{sign}Infinity"}}"#);
        }
        // `Debug` is the shortest form that reads back the same, and keeps a fraction on whole
        // numbers, so that a reader can tell a double from an integer.
        match self.form {
            Form::Relaxed => write!(self.out, "{number:?}"),
            Form::Canonical => write!(self.out, r#"{{"$numberDouble":"{number:?}"}}"#),
        }
    }

    /// RFC 3339 with milliseconds where they are not 0, for the years that the form is meant for.
    fn date(&mut self, millis: i64) -> fmt::Result {
        let seconds = millis.div_euclid(1000);
        let fraction = millis.rem_euclid(1000);
        let date = OffsetDateTime::from_unix_timestamp(seconds).ok();
        let has_form = |date: &OffsetDateTime| {
            self.form == Form::Relaxed && (1970..=9999).contains(&date.year())
        };
        let Some(date) = date.filter(has_form) else {
            return write!(self.out, r#"{{"$date":{{"$numberLong":"{millis}"}}}}"#);
        };
        let (year, month, day) = date.to_calendar_date();
        let (hour, minute, second) = date.to_hms();
        let month = u8::from(month);
        write!(
            self.out,
            r#"{{"$date":"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"#
        )?;
        if fraction != 0 {
            write!(self.out, ".{fraction:03}")?;
        }
        self.out.write_str(r#"Z"}"#)
    }

    fn string(&mut self, text: &str) -> fmt::Result {
        self.out.write_char('"')?;
        let mut clean_from = 0;
        for (at, byte) in text.bytes().enumerate() {
            let escape = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                b'\r' => "\\r",
                b'\t' => "\\t",
                0..=0x1f => "",
                _ => continue,
            };
            self.out.write_str(&text[clean_from..at])?;
            if escape.is_empty() {
                write!(self.out, "\\u{byte:04x}")?;
            } else {
                self.out.write_str(escape)?;
            }
            clean_from = at + 1;
        }
        self.out.write_str(&text[clean_from..])?;
        self.out.write_char('"')
    }
}
