//! Bytes written out, for the tables of tests.

use bytes::{Bytes, BytesMut};

use crate::{Document, Frame, Limits, OpCode};

/// Bytes from hexadecimal digits; white space and text in parentheses are for the reader.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let mut digits = String::new();
    let mut in_comment = false;
    for symbol in text.chars() {
        match symbol {
            '(' => in_comment = true,
            ')' => in_comment = false,
            _ if in_comment || symbol.is_whitespace() => {}
            _ => digits.push(symbol),
        }
    }
    assert_eq!(digits.len() % 2, 0, "whole bytes in {text}");
    let pair = |start: usize| u8::from_str_radix(&digits[start..start + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// A frame with `requestID` 7 and `responseTo` 9 around a body.
pub(crate) fn frame(op_code: OpCode, body: &str) -> Frame {
    Frame::new(7, 9, op_code, Bytes::from(hex(body)), &Limits::default()).unwrap()
}

pub(crate) fn wire(frame: &Frame) -> BytesMut {
    let mut wire = BytesMut::new();
    frame.encode(&mut wire, &Limits::default()).unwrap();
    wire
}

pub(crate) fn document(text: &str) -> Document {
    Document::from_bytes(hex(text)).unwrap()
}

/// `{ping: 1}`
pub(crate) const PING: &str = "0f000000 10 70696e6700 01000000 00";
/// `{}`
pub(crate) const EMPTY: &str = "05000000 00";
