//! The example against a real server that dies on the way.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in helpers too"
)]

use std::ops::ControlFlow;

use bson::{Timestamp, rawdoc};
use mongo_change_stream::{WatchOptions, WatchTarget};
use testbed::cluster::ReplicaSet;

#[allow(dead_code, reason = "its main function is not called here")]
#[path = "../examples/own_event_loop.rs"]
mod example;

/// Returns when that was.
fn insert(set: &ReplicaSet, id: i32) -> Timestamp {
    let command = rawdoc! {
        "insert": "orders", "documents": [{ "_id": id }], "writeConcern": { "w": "majority" },
    };
    let primary = set.primary().unwrap();
    let reply = primary.run_command("shop", &command).unwrap();
    reply.get_timestamp("operationTime").unwrap()
}

#[test]
fn a_blocking_loop_follows_a_server_through_its_restart() {
    let set = ReplicaSet::start(1).unwrap();
    let address = set.primary().unwrap().address().to_owned();
    let start = insert(&set, 0);
    let options = WatchOptions {
        start_at_operation_time: Some(start),
        ..WatchOptions::default()
    };
    let mut seen = Vec::new();
    let mut tokens = Vec::new();
    let target = WatchTarget::Database("shop".into());
    let followed = example::follow(&address, target, options, |event, token| {
        let id = event.document_key().unwrap().get_i32("_id").unwrap();
        seen.push(id);
        tokens.push(token.unwrap().cluster_time().unwrap());
        match id {
            5 => return ControlFlow::Break(()),
            2 => {
                let member = set.primary().unwrap();
                member.kill().unwrap();
                member.restart().unwrap();
                set.wait_for_primary().unwrap();
            }
            _ => {}
        }
        insert(&set, id + 1);
        ControlFlow::Continue(())
    });
    followed.unwrap();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    assert!(tokens.is_sorted(), "{tokens:?}");
}
