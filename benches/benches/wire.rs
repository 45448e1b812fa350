//! Decoding and encoding plain messages, beside the work that cannot be avoided: copying the
//! bytes, and a checksum over them.

use std::hint::black_box;
use std::time::Duration;

use benches::cpu_time::{CpuTime, criterion};
use benches::messages::{SIZES, frame, hollow_stream, message, reply, wire};
use benches::pairs::Pairs;
use bytes::BytesMut;
use criterion::Criterion;
use mongo_wire::{CommandReply, Flags, Limits, Message, OpMsg, decode};

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

fn decoded(c: &mut Criterion<CpuTime>) {
    for (size, case) in SIZES {
        // Setting up takes longer than what is measured.
        let mut group = c.benchmark_group("decode");
        group.warm_up_time(Duration::from_millis(20));
        group.measurement_time(Duration::from_millis(100));
        group.bench_function(case, |b| b.iter_custom(|count| time_decoding(size, count)));
        group.finish();
    }
}

fn encoded(pairs: &Pairs) {
    let limits = Limits::default();
    for (size, case) in SIZES {
        let message = message(size, Flags::empty());
        let bytes = wire(&message);
        let mut ours = BytesMut::with_capacity(bytes.len());
        let mut bare = ours.clone();
        pairs.measure(
            case,
            ("encode", &mut || encode_into(&mut ours, &message, &limits)),
            ("memcpy", &mut || copy_into(&mut bare, &bytes)),
        );
    }
}

fn checksummed(pairs: &Pairs) {
    let limits = Limits::default();
    for (size, case) in SIZES {
        let message = message(size, Flags::CHECKSUM_PRESENT);
        let bytes = wire(&message);
        let frame = frame(&message, None);
        let covered = bytes.len() - 4;
        let mut decode = || {
            let read = Message::from_frame(black_box(&frame).clone(), &limits);
            drop(black_box(read).expect("good"));
        };
        let mut bare = || {
            black_box(crc32c::crc32c(black_box(&bytes[..covered])));
        };
        pairs.measure(
            case,
            ("decode with checksum", &mut decode),
            ("crc32c", &mut bare),
        );

        let mut ours = BytesMut::with_capacity(bytes.len());
        let mut bare = ours.clone();
        pairs.measure(
            case,
            ("encode with checksum", &mut || {
                encode_into(&mut ours, &message, &limits);
            }),
            ("memcpy and crc32c", &mut || {
                copy_into(&mut bare, &bytes);
                black_box(crc32c::crc32c(&bare[..covered]));
            }),
        );
    }
}

fn encode_into(dst: &mut BytesMut, message: &OpMsg, limits: &Limits) {
    dst.clear();
    black_box(message)
        .encode(dst, limits)
        .expect("within the limits");
}

fn copy_into(dst: &mut BytesMut, bytes: &[u8]) {
    dst.clear();
    dst.extend_from_slice(black_box(bytes));
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
    decoded(&mut criterion);
    batches(&mut criterion);
    criterion.final_summary();
    let pairs = Pairs::from_args();
    encoded(&pairs);
    checksummed(&pairs);
}
