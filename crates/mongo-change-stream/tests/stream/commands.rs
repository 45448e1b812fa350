//! Rules A and B: the shapes of `aggregate`, `getMore` and `killCursors`.

use std::time::Duration;

use bson::{Bson, Document, Timestamp, doc};
use mongo_change_stream::{
    FailureKind, FullDocumentBeforeChangeType, FullDocumentType, WatchOptions, WatchTarget,
};

use crate::harness::{
    Stream, WIRE_4_2, WIRE_6_0, batch, collection, prefetch, resumable, server_error, token,
    without_prefetch,
};

fn all_options() -> WatchOptions {
    WatchOptions {
        full_document: Some(FullDocumentType::UpdateLookup),
        full_document_before_change: Some(FullDocumentBeforeChangeType::Required),
        resume_after: Some(token("r")),
        start_after: Some(token("s")),
        start_at_operation_time: Some(Timestamp {
            time: 5,
            increment: 6,
        }),
        max_await_time: Some(Duration::from_millis(250)),
        batch_size: Some(3),
        collation: Some((&doc! { "locale": "de" }).try_into().unwrap()),
        comment: Some(bson::RawBson::Int32(9)),
        show_expanded_events: Some(true),
    }
}

fn aggregate_for(target: WatchTarget, pipeline: &[Document], options: WatchOptions) -> Document {
    let stream = Stream::watching(target, pipeline, options, without_prefetch());
    let mut command = stream.aggregate().body.clone();
    command.insert("$db", stream.aggregate().database.clone());
    command
}

#[test]
fn rule_1_3_5_plain_watch_has_an_empty_stage_at_every_level() {
    let cases = [
        (
            collection(),
            doc! { "aggregate": "orders", "pipeline": [{ "$changeStream": {} }], "cursor": {}, "$db": "shop" },
        ),
        (
            WatchTarget::Database("shop".into()),
            doc! { "aggregate": 1, "pipeline": [{ "$changeStream": {} }], "cursor": {}, "$db": "shop" },
        ),
        (
            WatchTarget::Cluster,
            doc! {
                "aggregate": 1,
                "pipeline": [{ "$changeStream": { "allChangesForCluster": true } }],
                "cursor": {},
                "$db": "admin",
            },
        ),
    ];
    for (target, expected) in cases {
        assert_eq!(
            aggregate_for(target, &[], WatchOptions::default()),
            expected
        );
    }
}

#[test]
fn rule_1_7_pipeline_and_conflicting_options_go_to_the_server_as_they_are() {
    let stages = [doc! { "$changeStream": {} }, doc! { "$bogus": 1 }];
    let command = aggregate_for(collection(), &stages, all_options());
    let pipeline = command.get_array("pipeline").unwrap();
    let rest: Vec<_> = pipeline[1..]
        .iter()
        .map(|stage| stage.as_document().unwrap())
        .collect();
    assert_eq!(rest, stages.iter().collect::<Vec<_>>());
}

#[test]
fn rule_2_each_option_goes_to_its_place() {
    let command = aggregate_for(collection(), &[], all_options());
    let stage = doc! {
        "fullDocument": "updateLookup",
        "fullDocumentBeforeChange": "required",
        "showExpandedEvents": true,
        "resumeAfter": { "t": "r" },
        "startAfter": { "t": "s" },
        "startAtOperationTime": Timestamp { time: 5, increment: 6 },
    };
    let expected = doc! {
        "aggregate": "orders",
        "pipeline": [{ "$changeStream": stage }],
        "cursor": { "batchSize": 3 },
        "collation": { "locale": "de" },
        "comment": 9,
        "$db": "shop",
    };
    assert_eq!(command, expected);
}

#[test]
fn rule_4_unknown_values_of_open_options_are_sent() {
    let options = WatchOptions {
        full_document: Some("later".into()),
        full_document_before_change: Some("sooner".into()),
        ..WatchOptions::default()
    };
    let command = aggregate_for(collection(), &[], options);
    let stage = doc! { "fullDocument": "later", "fullDocumentBeforeChange": "sooner" };
    assert_eq!(
        command.get_array("pipeline").unwrap()[0],
        Bson::from(doc! { "$changeStream": stage })
    );
}

fn get_more_with(options: WatchOptions, wire: i32) -> Document {
    let mut stream = Stream::open(options);
    stream.wire = wire;
    stream.reply(&batch(42, &[], "p"));
    stream.demand();
    stream.get_more().body.clone()
}

#[test]
fn rule_13_14_get_more_carries_only_what_was_set() {
    let plain = doc! { "getMore": 42_i64, "collection": "orders" };
    let full = doc! {
        "getMore": 42_i64, "collection": "orders", "batchSize": 3, "maxTimeMS": 250_i64, "comment": 9,
    };
    let mut full_before_4_4 = full.clone();
    full_before_4_4.remove("comment");
    let zero = WatchOptions {
        batch_size: Some(0),
        ..WatchOptions::default()
    };
    let cases = [
        (
            "nothing set",
            WatchOptions::default(),
            WIRE_6_0,
            plain.clone(),
        ),
        ("all set", all_options(), WIRE_6_0, full.clone()),
        (
            "all set, first version with comments",
            all_options(),
            9,
            full,
        ),
        (
            "all set, before comments",
            all_options(),
            WIRE_4_2,
            full_before_4_4,
        ),
        ("batch size zero", zero, WIRE_6_0, plain),
    ];
    for (name, options, wire, expected) in cases {
        assert_eq!(get_more_with(options, wire), expected, "{name}");
    }
}

#[test]
fn rule_13_await_time_below_a_millisecond_is_not_zero() {
    for (time, expected) in [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
        let time = Duration::from_nanos(time);
        let options = WatchOptions {
            max_await_time: Some(time),
            ..WatchOptions::default()
        };
        assert_eq!(
            get_more_with(options, WIRE_6_0)
                .get_i64("maxTimeMS")
                .unwrap(),
            expected
        );
    }
}

#[test]
fn rule_2_batch_size_zero_is_sent_with_the_aggregate() {
    let options = WatchOptions {
        batch_size: Some(0),
        ..WatchOptions::default()
    };
    let command = aggregate_for(collection(), &[], options);
    assert_eq!(
        command.get_document("cursor").unwrap(),
        &doc! { "batchSize": 0 }
    );
}

#[test]
fn rule_6_get_more_uses_the_namespace_and_id_of_the_last_reply() {
    let reply = |id: i64, ns: &str| {
        let mut reply = batch(id, &[], "p");
        reply.get_document_mut("cursor").unwrap().insert("ns", ns);
        reply
    };
    let mut stream = Stream::watching(
        WatchTarget::Cluster,
        &[],
        WatchOptions::default(),
        without_prefetch(),
    );
    for (id, ns, database, collection) in [
        (7, "admin.$cmd.aggregate", "admin", "$cmd.aggregate"),
        (7, "shop.a.b.c", "shop", "a.b.c"),
        (8, "shop.a.b.c", "shop", "a.b.c"),
    ] {
        stream.reply(&reply(id, ns));
        stream.demand();
        let command = stream.get_more();
        assert_eq!(command.database, database);
        assert_eq!(
            command.body,
            doc! { "getMore": id, "collection": collection }
        );
    }
    stream.close();
    let kill = doc! { "killCursors": "a.b.c", "cursors": [8_i64], "$db": "shop" };
    assert_eq!(stream.killed, [kill]);
}

#[test]
fn rule_15_empty_batches_keep_the_cursor_open() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(42, &[], "p1"));
    for end in ["p2", "p3"] {
        stream.demand();
        stream.get_more();
        stream.reply(&batch(42, &[], end));
    }
    assert!(stream.finished.is_none());
    assert!(stream.killed.is_empty());
}

#[test]
fn rule_16_id_zero_ends_the_stream_after_its_events() {
    for config in [without_prefetch(), prefetch(2, 1 << 20)] {
        let mut stream = Stream::with(WatchOptions::default(), config);
        stream.reply(&batch(42, &[], "p"));
        stream.demand();
        stream.reply(&batch(0, &["drop", "invalidate"], "end"));
        assert!(matches!(stream.finished, Some(Ok(()))));
        assert!(stream.killed.is_empty(), "there is nothing to kill");
        assert_eq!(
            stream.next().unwrap().unwrap(),
            crate::harness::event("drop")
        );
        assert_eq!(
            stream.next().unwrap().unwrap(),
            crate::harness::event("invalidate")
        );
        assert!(stream.next().is_none());
        assert_eq!(stream.token().unwrap(), "end");
    }
}

#[test]
fn rule_16_id_zero_in_the_first_reply_ends_the_stream_too() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(0, &["a"], "end"));
    assert!(matches!(stream.finished, Some(Ok(()))));
    assert_eq!(stream.next().unwrap().unwrap(), crate::harness::event("a"));
    assert!(stream.next().is_none());
}

#[test]
fn rule_18_a_resume_kills_the_old_cursor_first() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(42, &[], "p"));
    stream.demand();
    stream.reply(&resumable());
    stream.aggregate();
    assert_eq!(
        stream.killed,
        [doc! { "killCursors": "orders", "cursors": [42_i64], "$db": "shop" }]
    );
    let order: Vec<_> = stream
        .log
        .iter()
        .map(|action| action.split([' ', '(']).next().unwrap())
        .collect();
    assert_eq!(
        order,
        [
            "Aggregate",
            "Publish",
            "Deliver",
            "GetMore",
            "KillCursors",
            "Unbind",
            "Publish",
            "Aggregate"
        ]
    );
}

#[test]
fn rule_18_a_cursor_the_server_no_longer_has_is_not_killed() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(42, &[], "p"));
    stream.demand();
    stream.reply(&server_error(43, &[]));
    stream.aggregate();
    assert!(stream.killed.is_empty());
}

#[test]
fn get_more_deadline_is_the_await_time_and_a_margin_that_grows_with_misses() {
    let margin = without_prefetch().get_more_margin;
    for (await_time, waited) in [(None, 1_000), (Some(Duration::from_millis(250)), 250)] {
        let options = WatchOptions {
            max_await_time: await_time,
            ..WatchOptions::default()
        };
        let mut stream = Stream::open(options);
        for doublings in [0, 1, 2, 3, 4, 4] {
            stream.pass(Duration::from_secs(30));
            stream.reply(&batch(42, &[], "p"));
            stream.demand();
            let expected = Duration::from_millis(waited) + margin * (1 << doublings);
            assert_eq!(stream.get_more().deadline, Some(expected));
            stream.fail(FailureKind::Timeout);
        }
        stream.pass(Duration::from_secs(30));
        stream.reply(&batch(42, &[], "p"));
        stream.demand();
        stream.reply(&batch(42, &[], "p"));
        stream.demand();
        assert_eq!(
            stream.get_more().deadline,
            Some(Duration::from_millis(waited) + margin)
        );
    }
}
