//! Follows the change stream of a replay server with the official Rust driver:
//! `peers URI WAY seconds|events AMOUNT` prints events and seconds.

use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, RawDocumentBuf};
use mongodb::change_stream::{ChangeStream, event::ChangeStreamEvent};
use serde::{Deserialize, de::DeserializeOwned};

/// What the events are about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Order {
    _id: i32,
    total: f64,
    note: String,
}

/// What a consumer does with an event where it does something.
const WORK: Duration = Duration::from_micros(20);

/// When to stop, and what to do with each event before.
struct Until {
    time: Duration,
    events: u64,
    work: Duration,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, way, unit, amount] = arguments.as_slice() else {
        panic!("URI WAY seconds|events AMOUNT");
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut until = Until {
        time: Duration::MAX,
        events: u64::MAX,
        work: Duration::ZERO,
    };
    match unit.as_str() {
        "seconds" => until.time = Duration::from_secs_f64(amount.parse().expect("seconds")),
        _ => until.events = amount.parse().expect("a number"),
    }
    let (events, seconds) = runtime.block_on(async {
        let client = Client::with_uri_str(uri).await.expect("a good URI");
        let collection = client.database("shop").collection::<Order>("orders");
        let stream = collection.watch().await.expect("a stream");
        match way.as_str() {
            "raw" => count::<RawDocumentBuf>(stream.with_type(), until).await,
            "raw and work" => {
                until.work = WORK;
                count::<RawDocumentBuf>(stream.with_type(), until).await
            }
            "typed" => count(stream, until).await,
            "document" => count::<ChangeStreamEvent<Document>>(stream.with_type(), until).await,
            other => panic!("no such way: {other}"),
        }
    });
    println!("{events} {seconds}");
}

async fn count<T: DeserializeOwned + Unpin + Send + Sync>(
    mut stream: ChangeStream<T>,
    until: Until,
) -> (u64, f64) {
    use futures_util::StreamExt as _;

    stream.next().await.expect("an event").expect("good");
    let start = Instant::now();
    let mut events = 0_u64;
    loop {
        std::hint::black_box(stream.next().await.expect("an event").expect("good"));
        events += 1;
        let begun = (!until.work.is_zero()).then(Instant::now);
        while begun.is_some_and(|begun| begun.elapsed() < until.work) {}
        let is_late = events.is_multiple_of(256) && start.elapsed() >= until.time;
        if is_late || events >= until.events {
            return (events, start.elapsed().as_secs_f64());
        }
    }
}
