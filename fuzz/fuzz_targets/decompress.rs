//! `OP_COMPRESSED`: inflation keeps to what was declared, by every compressor.
#![no_main]

use bytes::Bytes;
use fuzz::limits;
use libfuzzer_sys::fuzz_target;
use mongo_wire::{Compressor, Frame, OpCode};

/// Where the compressor's id stands in the body.
const ID: usize = 8;

fuzz_target!(|body: &[u8]| {
    let Ok(frame) = Frame::new(
        1,
        2,
        OpCode::OP_COMPRESSED,
        Bytes::copy_from_slice(body),
        &limits(),
    ) else {
        return;
    };
    let named = frame.compressor();
    let plain = match frame.decompress(&limits()) {
        Ok(plain) => plain,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(named, Compressor::from_id(body[ID]));
    let declared = u32::from_le_bytes(body[4..ID].try_into().expect("four bytes"));
    assert_eq!(
        plain.body.len(),
        usize::try_from(declared).expect("within the limit")
    );
    assert!(plain.body.len() <= limits().max_inflated_len);
    assert_ne!(plain.header.op_code, OpCode::OP_COMPRESSED);
    assert_eq!((plain.header.request_id, plain.header.response_to), (1, 2));

    let compressor = named.expect("it was inflated");
    let again = plain
        .compress(compressor, &limits())
        .expect("it is no larger than it was");
    assert_eq!(again.decompress(&limits()), Ok(plain));
});
