//! How long writes are impossible when a replica set loses its primary, beside how long the set
//! itself had none.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{RawDocumentBuf, rawdoc};
use integration_tests::PATIENCE;
use mongo_client::Client;
use testbed::cluster::{Member, ReplicaSet};

/// How much longer than the set a client may take to find the new primary.
const DELAY: Duration = Duration::from_secs(5);

/// A loss of the primary.
struct Loss {
    name: &'static str,
    strike: fn(&Member),
    heal: fn(&Member),
}

const LOSSES: [Loss; 3] = [
    Loss {
        name: "stepped down",
        strike: |primary| {
            let command = rawdoc! {
                "replSetStepDown": 3, "secondaryCatchUpPeriodSecs": 1, "force": true,
            };
            primary.run_command("admin", &command).unwrap();
        },
        heal: |_| {},
    },
    Loss {
        name: "frozen (SIGSTOP)",
        strike: |primary| primary.pause().unwrap(),
        heal: |member| member.resume().unwrap(),
    },
    Loss {
        name: "killed (SIGKILL)",
        strike: |primary| primary.kill().unwrap(),
        heal: |member| member.restart().unwrap(),
    },
];

/// Waits for the primary, strikes it, and tells when, and when there was another one.
fn lose(set: &ReplicaSet, loss: &Loss) -> (usize, Instant, Instant) {
    set.wait_for_secondaries().unwrap();
    let old = set.wait_for_primary().unwrap();
    let struck = Instant::now();
    (loss.strike)(old);
    set.wait_for_new_primary(old).unwrap();
    (old.index(), struck, Instant::now())
}

/// A write that the primary alone confirms: a member that has followed a frozen one takes long to
/// notice, which is no fault of the client.
fn insert(id: i32) -> RawDocumentBuf {
    rawdoc! {
        "insert": "things", "documents": [{ "_id": id }], "writeConcern": { "w": 1 },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_succeed_again_soon_after_the_set_has_a_primary() {
    let start = || Arc::new(ReplicaSet::start(3).unwrap());
    let set = tokio::task::spawn_blocking(start).await.unwrap();
    // A write that a frozen server holds is given up after a second.
    let client = Client::new(&format!("{}&timeoutMS=1000", set.uri())).unwrap();
    let database = client.database("test");
    let mut id = 0;
    for loss in &LOSSES {
        let losing = Arc::clone(&set);
        let mut losing = tokio::task::spawn_blocking(move || lose(&losing, loss));
        // Every try, when it began, and whether it got through.
        let mut tries = Vec::new();
        let outcome = loop {
            let command = insert(id);
            id += 1;
            let began = Instant::now();
            let result = database.run_command(&command).await;
            tries.push((began, Instant::now(), result.is_ok()));
            let is_over = losing.is_finished() && result.is_ok();
            if is_over {
                break (&mut losing).await.unwrap();
            }
            assert!(tries[0].0.elapsed() < PATIENCE, "{}: no end", loss.name);
        };
        let (old, struck, elected) = outcome;
        let later = tries.iter().filter(|(began, ..)| *began > struck);
        let failed = later.clone().filter(|(.., is_ok)| !is_ok).count();
        let last_failure = tries.iter().rev().find(|(.., is_ok)| !is_ok);
        let from = last_failure.map_or(struck, |(_, ended, _)| *ended);
        let again = tries
            .iter()
            .find(|(began, _, is_ok)| *is_ok && *began >= from);
        let again = again
            .map(|(_, ended, _)| ended.duration_since(struck))
            .unwrap();
        let elected = elected.duration_since(struck);
        println!(
            "{}: writes succeeded again after {again:.1?}, the set had a primary after \
             {elected:.1?}; {failed} writes failed",
            loss.name
        );
        assert!(
            again < elected + DELAY,
            "{}: {again:?}, {elected:?}",
            loss.name
        );
        let healing = Arc::clone(&set);
        let heal = move || (loss.heal)(healing.member(old));
        tokio::task::spawn_blocking(heal).await.unwrap();
    }
    println!("{client}");
    client.shutdown().await;
}
