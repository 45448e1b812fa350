//! What a change stream takes from the allocator, from the socket to the consumer.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use allocation_counter::{AllocationInfo, measure};
use mongo_client::change_stream::Prefetch;
use mongo_client::{ChangeStream, Client, ClientOptions, TracingOptions};
use testbed::replay::{Replay, ReplayServer, get_more_reply};
use tokio::runtime::{Builder, Runtime};

/// A stream whose every part runs on this thread, so that all of it is counted.
struct Lone {
    runtime: Runtime,
    client: Client,
    stream: ChangeStream,
    _server: ReplayServer,
}

impl Lone {
    fn open(replay: &Replay, prefetch: Option<Prefetch>) -> Self {
        Self::open_traced(replay, prefetch, false)
    }

    fn open_traced(replay: &Replay, prefetch: Option<Prefetch>, is_traced: bool) -> Self {
        let mut tracing = TracingOptions::default();
        tracing.enabled = Some(is_traced);
        let server = ReplayServer::start(replay).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (client, stream) = runtime.block_on(async {
            let options = ClientOptions::parse(&server.uri()).unwrap();
            let client = Client::with_options(options.tracing(tracing)).unwrap();
            let orders = client.database("shop").collection("orders");
            let stream = orders.watch().prefetch(prefetch).await.unwrap();
            (client, stream)
        });
        Self {
            runtime,
            client,
            stream,
            _server: server,
        }
    }

    fn take(&mut self, events: usize) -> AllocationInfo {
        let (runtime, stream) = (&self.runtime, &mut self.stream);
        measure(|| {
            runtime.block_on(async {
                for _ in 0..events {
                    stream.next_raw().await.unwrap().unwrap();
                }
            });
        })
    }

    fn close(mut self) {
        self.runtime.block_on(async {
            self.stream.close().await;
            self.client.shutdown().await;
        });
    }
}

#[test]
fn a_get_more_of_one_event_costs_a_few_allocations() {
    const EVENTS: usize = 500;
    let ahead = Some(Prefetch::new(1, usize::MAX));
    // Spans that nobody looks at cost nothing.
    for (prefetch, is_traced) in [(None, false), (ahead, false), (ahead, true)] {
        let replay = Replay::of_orders(1, u64::MAX);
        let mut lone = Lone::open_traced(&replay, prefetch, is_traced);
        // What is set up once is not counted.
        lone.take(10);
        let counted = lone.take(EVENTS);
        let each = counted.count_total as f64 / EVENTS as f64;
        println!("{each:.1} allocations a getMore of one event; the Rust driver: 125 to 171");
        assert!(each <= 7.5, "{each} allocations with {prefetch:?}");
        lone.close();
    }
}

#[test]
fn raw_events_of_a_batch_cost_no_allocation_each() {
    const BATCHES: usize = 50;
    let allocations = |events: i32| {
        let mut lone = Lone::open(&Replay::of_orders(events, u64::MAX), None);
        let batch = usize::try_from(events).unwrap();
        lone.take(10 * batch);
        let counted = lone.take(BATCHES * batch);
        lone.close();
        counted.count_total / u64::try_from(BATCHES).unwrap()
    };
    let (few, many) = (allocations(10), allocations(1_000));
    println!("{few} allocations a batch of 10 events, {many} a batch of 1,000");
    // A longer reply is read in more pieces, none of which belongs to an event.
    assert!(many <= few + 20, "{few} for 10 events, {many} for 1,000");
}

#[test]
fn a_large_reply_is_held_once_and_once_more_for_each_batch_read_ahead() {
    const EVENTS: i32 = 26_000;
    let replay = Replay::of_orders(EVENTS, u64::MAX);
    let reply = u64::try_from(get_more_reply(&replay.events).as_bytes().len()).unwrap();
    for (window, prefetch) in [(0, None), (1, Some(Prefetch::new(1, usize::MAX)))] {
        let mut lone = Lone::open(&replay, prefetch);
        let counted = lone.take(4 * usize::try_from(EVENTS).unwrap());
        let peak = counted.bytes_max as f64 / reply as f64;
        println!("a reply of {reply} bytes: {peak:.2} times as much at the peak, {window} ahead");
        // The one that is being consumed, and those of the window.
        let allowed = (window + 1) as f64 + 0.1;
        assert!(peak <= allowed, "{peak:.2} replies at the peak");
        lone.close();
    }
}
