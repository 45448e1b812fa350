//! Processes that save checkpoints as fast as they can and are killed while they do.
//!
//! Whatever the moment, what is kept is whole, and it is what was last reported as saved or what was
//! being saved behind it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test and its helpers"
)]

use std::io::{BufRead, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bson::rawdoc;
use integration_tests::{PATIENCE, own_database, shared_client, shared_set};
use mongo_client::Client;
use mongo_client::change_stream::{Checkpoint, ResumePoint, StreamIdentity, WatchTarget};
use mongo_client::checkpoint::{CheckpointStore, CollectionStore, FileStore};

/// Set in the helper processes: the file to save to.
const FILE: &str = "CHECKPOINT_CRASH_FILE";

/// Set in the helper processes: the server and the database to save to.
const SERVER: &str = "CHECKPOINT_CRASH_SERVER";
const DATABASE: &str = "CHECKPOINT_CRASH_DATABASE";

/// How many processes are killed.
const KILLS: u32 = 200;

/// The `number`th checkpoint. Some are small, some take several writes of the system.
fn checkpoint(number: i32) -> Checkpoint {
    let size = usize::try_from(number % 7).unwrap() * 20_000;
    Checkpoint {
        identity: StreamIdentity::new(&WatchTarget::Cluster, &[]),
        point: ResumePoint {
            token: rawdoc! { "_data": number, "padding": "x".repeat(size) }.into(),
            after_invalidate: false,
        },
    }
}

/// Which checkpoint is kept, all of it; 0 for none.
async fn kept(store: &impl CheckpointStore) -> i32 {
    let Some(loaded) = store.load().await.unwrap() else {
        return 0;
    };
    let number = loaded.point.token.as_raw().get_i32("_data").unwrap();
    assert_eq!(loaded, checkpoint(number));
    number
}

async fn save_for_ever(store: impl CheckpointStore) {
    for number in kept(&store).await + 1.. {
        store.save(&checkpoint(number)).await.unwrap();
        println!("\nsaved {number}");
    }
}

/// Does nothing unless it is run as a helper process: then it goes on where the last one was killed.
#[tokio::test]
async fn save_to_a_file() {
    if let Some(path) = std::env::var_os(FILE) {
        save_for_ever(FileStore::new(path)).await;
    }
}

/// The same.
#[tokio::test]
async fn save_to_a_collection() {
    if let (Ok(uri), Ok(database)) = (std::env::var(SERVER), std::env::var(DATABASE)) {
        let database = Client::new(&uri).unwrap().database(database);
        save_for_ever(CollectionStore::new(database.collection("places"), "a")).await;
    }
}

fn helper(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Lets a helper save at least once, kills it a moment later, and returns what it reported last.
fn kill_while_it_saves(mut helper: Child, moment: Duration) -> i32 {
    let mut output = BufReader::new(helper.stdout.take().unwrap());
    let mut first = String::new();
    while !first.starts_with("saved ") {
        first.clear();
        assert!(
            output.read_line(&mut first).unwrap() > 0,
            "it saved nothing"
        );
    }
    thread::sleep(moment);
    helper.kill().unwrap();
    helper.wait().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    // A line without an end was not said.
    let mut lines = rest
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let last = lines.rfind(|line| line.starts_with("saved "));
    let number = last.unwrap_or(&first).trim().strip_prefix("saved ");
    number.unwrap().parse().unwrap()
}

/// Up to a few saves later.
fn moment(random: &mut fastrand::Rng) -> Duration {
    Duration::from_micros(random.u64(0..8_000))
}

/// What was found behind the kills so far.
#[derive(Default)]
struct Tally {
    /// The checkpoint that was kept last.
    kept: i32,
    /// How often it was the one that was being saved.
    under_way: i32,
}

impl Tally {
    fn add(&mut self, reported: i32, kept: i32) {
        let before = self.kept;
        assert!(reported > before, "{reported} behind {before}");
        assert!(
            kept == reported || kept == reported + 1,
            "{kept} is kept, {reported} was reported"
        );
        self.under_way += kept - reported;
        self.kept = kept;
    }

    fn print(&self) {
        let Self { kept, under_way } = self;
        println!("{KILLS} kills, {kept} saves, {under_way} times the one under way was kept");
    }
}

#[tokio::test]
async fn a_file_survives_every_moment_of_a_save() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("a"));
    let mut random = fastrand::Rng::with_seed(1);
    let mut tally = Tally::default();
    for _ in 0..KILLS {
        let helper = helper("save_to_a_file").env(FILE, store.path()).spawn();
        let reported = kill_while_it_saves(helper.unwrap(), moment(&mut random));
        tally.add(reported, kept(&store).await);
    }
    tally.print();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_survives_the_death_of_its_client() {
    let client = shared_client().await;
    let database = own_database(&client);
    let store = CollectionStore::new(database.collection("places"), "a");
    let mut random = fastrand::Rng::with_seed(2);
    let mut tally = Tally::default();
    for kill in 0..KILLS {
        let name = format!("helper{kill}");
        let helper = helper("save_to_a_collection")
            .env(SERVER, format!("{}&appName={name}", shared_set().uri()))
            .env(DATABASE, database.name())
            .spawn();
        let reported = kill_while_it_saves(helper.unwrap(), moment(&mut random));
        tally.add(reported, kept_in_the_end(&client, &name, &store).await);
    }
    tally.print();
}

/// What is kept once the server has nothing left to do for a client that is gone.
async fn kept_in_the_end(client: &Client, name: &str, store: &CollectionStore) -> i32 {
    let command = rawdoc! {
        "aggregate": 1, "cursor": {}, "pipeline": [
            { "$currentOp": { "allUsers": true, "idleConnections": true } },
            { "$match": { "appName": name } },
        ],
    };
    let started = Instant::now();
    loop {
        let reply = client.run_admin_command(&command).await.unwrap();
        if reply.cursor().unwrap().batch.iter().count() == 0 {
            return kept(store).await;
        }
        assert!(started.elapsed() < PATIENCE, "{name} is still connected");
    }
}
