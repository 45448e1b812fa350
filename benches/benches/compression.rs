//! Compressed messages, beside the compressor and the decompressor alone.

use std::hint::black_box;

use benches::messages::{SIZES, frame, message};
use benches::pairs::Pairs;
use bytes::BytesMut;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use mongo_wire::{Compressor, Flags, Limits, Message};

/// What stands before the payload in the body of an `OP_COMPRESSED`.
const PREFIX: usize = 9;

/// A compressor or a decompressor as its own crate offers it.
type Codec = fn(&[u8], usize) -> Vec<u8>;

struct Method {
    name: &'static str,
    inflate: Codec,
    deflate: Codec,
}

const METHODS: [Method; 3] = [
    Method {
        name: "snappy",
        inflate: snappy_inflate,
        deflate: snappy_deflate,
    },
    Method {
        name: "zlib",
        inflate: zlib_inflate,
        deflate: zlib_deflate,
    },
    Method {
        name: "zstd",
        inflate: zstd_inflate,
        deflate: zstd_deflate,
    },
];

fn snappy_inflate(payload: &[u8], size: usize) -> Vec<u8> {
    let mut plain = vec![0; size];
    snap::raw::Decoder::new()
        .decompress(payload, &mut plain)
        .expect("good");
    plain
}

fn snappy_deflate(plain: &[u8], _: usize) -> Vec<u8> {
    snap::raw::Encoder::new()
        .compress_vec(plain)
        .expect("not too long")
}

fn zlib_inflate(payload: &[u8], size: usize) -> Vec<u8> {
    let mut plain = Vec::with_capacity(size);
    let mut state = Decompress::new(true);
    state
        .decompress_vec(payload, &mut plain, FlushDecompress::Finish)
        .expect("good");
    plain
}

fn zlib_deflate(plain: &[u8], size: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(size + 64);
    let mut state = Compress::new(Compression::default(), true);
    state
        .compress_vec(plain, &mut payload, FlushCompress::Finish)
        .expect("there is room");
    payload
}

fn zstd_inflate(payload: &[u8], size: usize) -> Vec<u8> {
    zstd::bulk::decompress(payload, size).expect("good")
}

fn zstd_deflate(plain: &[u8], _: usize) -> Vec<u8> {
    zstd::bulk::compress(plain, zstd::DEFAULT_COMPRESSION_LEVEL).expect("there is room")
}

fn compressed(pairs: &Pairs) {
    let limits = Limits::default();
    for (size, case) in SIZES {
        let message = message(size, Flags::empty());
        let plain = frame(&message, None).body;
        for method in &METHODS {
            let compressor = Compressor::from_name(method.name).expect("known");
            let frame = frame(&message, Some(compressor));
            let payload = &frame.body[PREFIX..];
            let case = format!("{} {case}", method.name);
            let mut decode = || {
                let read = Message::from_frame(black_box(&frame).clone(), &limits);
                drop(black_box(read).expect("good"));
            };
            let mut inflate = || {
                black_box((method.inflate)(black_box(payload), plain.len()));
            };
            pairs.measure(
                &case,
                ("decode compressed", &mut decode),
                ("inflate", &mut inflate),
            );
            let mut wire = BytesMut::new();
            let mut encode = || {
                wire.clear();
                black_box(&message)
                    .encode_compressed(&mut wire, compressor, &limits)
                    .expect("good");
            };
            let mut deflate = || {
                black_box((method.deflate)(black_box(&plain), plain.len()));
            };
            pairs.measure(
                &case,
                ("encode compressed", &mut encode),
                ("deflate", &mut deflate),
            );
        }
    }
}

fn main() {
    compressed(&Pairs::from_args());
}
