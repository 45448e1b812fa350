//! Reading change events of a batch as one type or another.

use std::hint::black_box;

use benches::cpu_time::{CpuTime, criterion};
use criterion::Criterion;
use mongo_client::change_stream::{ChangeEvent, EventRef};
use serde::Deserialize;
use testbed::replay::order;

/// What the events are about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "reading them is what is measured")]
struct Order<'a> {
    _id: i32,
    total: f64,
    #[serde(borrow)]
    note: std::borrow::Cow<'a, str>,
}

fn main() {
    let mut criterion: Criterion<CpuTime> = criterion(100, 500);
    let document = order(7);
    let event = EventRef::new(&document);
    let mut group = criterion.benchmark_group("read an event");
    group.bench_function("operation and namespace", |b| {
        b.iter(|| {
            let event = black_box(event);
            (event.operation_type(), event.namespace())
        });
    });
    group.bench_function("typed", |b| {
        b.iter(|| black_box(event).deserialize::<ChangeEvent<Order<'_>>>());
    });
    group.bench_function("document", |b| {
        b.iter(|| black_box(event).deserialize::<ChangeEvent<bson::Document>>());
    });
    group.bench_function("full document typed, by bson", |b| {
        let full = document.get_document("fullDocument").expect("it is there");
        b.iter(|| bson::deserialize_from_slice::<Order<'_>>(black_box(full.as_bytes())));
    });
    group.bench_function("full document, by bson", |b| {
        let full = document.get_document("fullDocument").expect("it is there");
        b.iter(|| bson::deserialize_from_slice::<bson::Document>(black_box(full.as_bytes())));
    });
    group.finish();
    criterion.final_summary();
}
