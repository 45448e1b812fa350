//! A client that follows the change stream of a replay server in one of several ways, and says how
//! fast: `stream_client URI WAY seconds|events AMOUNT` prints events and seconds.
//!
//! `cargo xtask bench --only streams` runs it beside clients of other makers, which take the same arguments.
#![expect(
    clippy::print_stdout,
    reason = "the figures are for whoever started it"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bson::{RawDocumentBuf, rawdoc};
use bytes::BytesMut;
use mongo_client::change_stream::ChangeEvent;
use mongo_client::{ChangeStream, Client};
use mongo_wire::{CommandReply, Limits, Message, OpMsg};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What the events are about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "reading them is what is measured")]
struct Order {
    _id: i32,
    total: f64,
    note: String,
}

/// What a consumer does with an event where it does something.
const WORK: Duration = Duration::from_micros(20);

/// When to stop.
#[derive(Clone, Copy)]
enum Until {
    Time(Duration),
    Events(u64),
}

/// Counts events until there are enough, and remembers since when.
struct Meter {
    until: Until,
    start: Instant,
    events: u64,
}

impl Meter {
    fn new(until: Until) -> Self {
        Self {
            until,
            start: Instant::now(),
            events: 0,
        }
    }

    /// Whether that was enough. The clock is asked seldom, as it costs about as much as an event.
    fn count(&mut self, events: u64) -> bool {
        self.events += events;
        match self.until {
            Until::Events(enough) => self.events >= enough,
            Until::Time(enough) => {
                (events > 1 || self.events.is_multiple_of(256)) && self.start.elapsed() >= enough
            }
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, way, unit, amount] = arguments.as_slice() else {
        panic!("URI WAY seconds|events AMOUNT");
    };
    let until = match unit.as_str() {
        "seconds" => Until::Time(Duration::from_secs_f64(amount.parse().expect("seconds"))),
        _ => Until::Events(amount.parse().expect("a number")),
    };
    let meter = if way == "discard" {
        discard(uri, until)
    } else {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(follow(uri, way, until))
    };
    let seconds = meter.start.elapsed().as_secs_f64();
    println!("{} {seconds}", meter.events);
}

async fn follow(uri: &str, way: &str, until: Until) -> Meter {
    let client = Client::new(uri).expect("a good URI");
    let watch = client.database("shop").collection("orders").watch();
    let watch = match way {
        "raw, on demand" => watch.prefetch(None),
        "exhaust" | "exhaust and work" => watch.exhaust(true),
        _ => watch,
    };
    let mut stream = watch.await.expect("a stream");
    // The clock starts with the first event, as it does for the other clients.
    stream.next_raw().await.expect("an event").expect("good");
    let meter = Meter::new(until);
    match way {
        "batch" => by_batch(stream, meter).await,
        "raw" | "exhaust" | "raw, on demand" => by_raw_event(stream, meter, Duration::ZERO).await,
        "raw and work" | "exhaust and work" => by_raw_event(stream, meter, WORK).await,
        "typed" => by_type::<ChangeEvent<Order>>(stream.with_type(), meter).await,
        "document" => by_type::<ChangeEvent<bson::Document>>(stream.with_type(), meter).await,
        other => panic!("no such way: {other}"),
    }
}

async fn by_batch(mut stream: ChangeStream, mut meter: Meter) -> Meter {
    loop {
        let batch = stream.next_batch().await.expect("a batch").expect("good");
        let events = batch
            .events()
            .map(|event| event.document().as_bytes().len())
            .filter(|len| *len > 0)
            .count();
        if meter.count(u64::try_from(events).expect("64 bits")) {
            return meter;
        }
    }
}

async fn by_raw_event(mut stream: ChangeStream, mut meter: Meter, work: Duration) -> Meter {
    loop {
        let event = stream.next_raw().await.expect("an event").expect("good");
        std::hint::black_box(event.document().as_bytes().len());
        let start = (!work.is_zero()).then(Instant::now);
        while start.is_some_and(|start| start.elapsed() < work) {}
        if meter.count(1) {
            return meter;
        }
    }
}

async fn by_type<T: DeserializeOwned>(mut stream: ChangeStream<T>, mut meter: Meter) -> Meter {
    loop {
        let event = stream.next().await.expect("an event").expect("good");
        std::hint::black_box(&event);
        if meter.count(1) {
            return meter;
        }
    }
}

/// What no client can do without: ask, read the whole answer, find its length and the number of
/// events, which is known.
fn discard(uri: &str, until: Until) -> Meter {
    let address = uri.trim_start_matches("mongodb://");
    let address = address.split('/').next().expect("a host");
    let mut stream = TcpStream::connect(address).expect("a server");
    stream.set_nodelay(true).expect("a TCP socket");
    let watch = rawdoc! { "aggregate": "orders", "$db": "shop" };
    let mut bytes = exchange(&mut stream, &watch, BytesMut::new());
    let more = rawdoc! { "getMore": 4_242_i64, "collection": "orders", "$db": "shop" };
    bytes.clear();
    bytes = exchange(&mut stream, &more, bytes);
    let reply = mongo_wire::decode(&mut bytes.clone(), &Limits::default());
    let Ok(Some(Message::Msg(reply))) = reply else {
        panic!("no reply");
    };
    let cursor = CommandReply::new(reply.body().clone()).cursor();
    let batch = cursor.expect("a cursor").batch.iter().count();
    let batch = u64::try_from(batch).expect("64 bits");
    let mut meter = Meter::new(until);
    loop {
        bytes.clear();
        bytes = exchange(&mut stream, &more, bytes);
        if meter.count(batch) {
            return meter;
        }
    }
}

fn exchange(stream: &mut TcpStream, command: &RawDocumentBuf, mut buffer: BytesMut) -> BytesMut {
    let mut request = BytesMut::new();
    OpMsg::new(1, command.clone().into())
        .encode(&mut request, &Limits::default())
        .expect("short");
    stream.write_all(&request).expect("written");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a reply");
    let length_bytes = usize::try_from(u32::from_le_bytes(length)).expect("64 bits");
    buffer.resize(length_bytes, 0);
    buffer[..4].copy_from_slice(&length);
    stream.read_exact(&mut buffer[4..]).expect("a whole reply");
    buffer
}
