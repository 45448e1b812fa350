//! Decoding and encoding plain messages, beside the work that cannot be avoided: copying the
//! bytes, and a checksum over them.

use std::hint::black_box;
use std::time::Duration;

use benches::cpu_time::{CpuTime, criterion};
use benches::messages::{SIZES, frame, hollow_stream, message, reply, wire};
use bytes::BytesMut;
use criterion::Criterion;
use mongo_wire::{CommandReply, Flags, Limits, Message, decode};

/// How many bytes of messages are decoded out of one buffer.
const STREAM_BYTES: usize = 512 << 20;

/// The time to take messages out of a buffer, `count` in all.
fn time_decoding(size: usize, count: u64) -> Duration {
    let limits = Limits::default();
    let mut left = usize::try_from(count).expect("64 bits");
    let mut spent = Duration::ZERO;
    while left > 0 {
        let now = left.min(STREAM_BYTES / size).min(1_024);
        let mut stream = hollow_stream(size, now);
        let start = CpuTime::now();
        for _ in 0..now {
            black_box(decode(&mut stream, &limits))
                .expect("good")
                .expect("whole");
        }
        spent += CpuTime::now() - start;
        assert!(stream.is_empty());
        left -= now;
    }
    spent
}

fn plain(c: &mut Criterion<CpuTime>) {
    let limits = Limits::default();
    for (size, case) in SIZES {
        // Setting up takes longer than what is measured.
        let mut group = c.benchmark_group("decode");
        group.warm_up_time(Duration::from_millis(20));
        group.measurement_time(Duration::from_millis(100));
        group.bench_function(case, |b| b.iter_custom(|count| time_decoding(size, count)));
        group.finish();

        let message = message(size, Flags::empty());
        let bytes = wire(&message);
        let mut copy = BytesMut::with_capacity(bytes.len());
        c.benchmark_group("memcpy").bench_function(case, |b| {
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(&bytes));
            });
        });
        c.benchmark_group("encode").bench_function(case, |b| {
            b.iter(|| {
                copy.clear();
                black_box(&message)
                    .encode(&mut copy, &limits)
                    .expect("within the limits");
            });
        });
    }
}

fn checksummed(c: &mut Criterion<CpuTime>) {
    let limits = Limits::default();
    for (size, case) in SIZES {
        let message = message(size, Flags::CHECKSUM_PRESENT);
        let bytes = wire(&message);
        let frame = frame(&message, None);
        let mut copy = BytesMut::with_capacity(bytes.len());
        c.benchmark_group("crc32c").bench_function(case, |b| {
            b.iter(|| crc32c::crc32c(black_box(&bytes[..bytes.len() - 4])));
        });
        c.benchmark_group("memcpy and crc32c")
            .bench_function(case, |b| {
                b.iter(|| {
                    copy.clear();
                    copy.extend_from_slice(black_box(&bytes));
                    crc32c::crc32c(&copy[..bytes.len() - 4])
                });
            });
        c.benchmark_group("decode with checksum")
            .bench_function(case, |b| {
                b.iter(|| Message::from_frame(black_box(&frame).clone(), &limits).expect("good"));
            });
        c.benchmark_group("encode with checksum")
            .bench_function(case, |b| {
                b.iter(|| {
                    copy.clear();
                    black_box(&message)
                        .encode(&mut copy, &limits)
                        .expect("within the limits");
                });
            });
    }
}

fn batches(c: &mut Criterion<CpuTime>) {
    let reply = CommandReply::new(reply(1_000));
    let batch = reply.cursor().expect("a cursor").batch;
    c.benchmark_group("iterate")
        .bench_function("1000 events as views", |b| {
            b.iter(|| black_box(&batch).iter().filter(Result::is_ok).count());
        });
    c.benchmark_group("iterate")
        .bench_function("1000 events as slices", |b| {
            b.iter(|| black_box(&batch).documents().filter(Result::is_ok).count());
        });
    c.benchmark_group("reply")
        .bench_function("ok and cursor", |b| {
            b.iter(|| (black_box(&reply).is_ok(), black_box(&reply).cursor()));
        });
}

fn main() {
    let mut criterion = criterion(100, 500);
    plain(&mut criterion);
    checksummed(&mut criterion);
    batches(&mut criterion);
    criterion.final_summary();
}
