//! Compressed messages, beside the compressor and the decompressor alone.

use std::hint::black_box;

use benches::cpu_time::{CpuTime, criterion};
use benches::messages::{SIZES, frame, message};
use bytes::BytesMut;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
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

/// A group whose samples are all of the same length, as suits what takes long.
fn flat<'a>(c: &'a mut Criterion<CpuTime>, name: &str) -> BenchmarkGroup<'a, CpuTime> {
    let mut group = c.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group
}

fn compressed(c: &mut Criterion<CpuTime>) {
    let limits = Limits::default();
    for (size, case) in SIZES {
        let message = message(size, Flags::empty());
        let plain = frame(&message, None).body;
        for method in &METHODS {
            let compressor = Compressor::from_name(method.name).expect("known");
            let frame = frame(&message, Some(compressor));
            let payload = &frame.body[PREFIX..];
            let case = format!("{} {case}", method.name);
            flat(c, "inflate").bench_function(&case, |b| {
                b.iter(|| (method.inflate)(black_box(payload), plain.len()));
            });
            flat(c, "decode compressed").bench_function(&case, |b| {
                b.iter(|| Message::from_frame(black_box(&frame).clone(), &limits).expect("good"));
            });
            flat(c, "deflate").bench_function(&case, |b| {
                b.iter(|| (method.deflate)(black_box(&plain), plain.len()));
            });
            let mut wire = BytesMut::new();
            flat(c, "encode compressed").bench_function(&case, |b| {
                b.iter(|| {
                    wire.clear();
                    let message = black_box(&message);
                    message
                        .encode_compressed(&mut wire, compressor, &limits)
                        .expect("good");
                });
            });
        }
    }
}

fn main() {
    let mut criterion = criterion(20, 500);
    compressed(&mut criterion);
    criterion.final_summary();
}
