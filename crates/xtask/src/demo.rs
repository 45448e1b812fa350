//! `cargo xtask demo`: a real replica set loses its primary while a writer writes and a change
//! stream follows; every event is held against what was written.

mod display;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mongo_client::change_stream::{RawEvent, StreamEvent};
use mongo_client::{ChangeStream, Client};
use testbed::cluster::ReplicaSet;
use tokio::task::JoinHandle;

use self::display::Display;
use self::plan::{COLLECTIONS, DATABASE, END, Key, Kind, Write};
use crate::shell;
use crate::workload::{Ledger, Pulse, Writer};

/// How long the next event may take before the run counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Writes to do.
    #[arg(long, default_value_t = 2_000)]
    writes: i32,
    /// Which writes: the same seed gives the same list.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What the kill of the primary looked like from outside.
#[derive(Debug)]
struct Kill {
    at: Instant,
    /// The write that was under way.
    during: usize,
}

/// Runs the demonstration.
///
/// # Errors
/// The deployment cannot be started, or an event is missing, repeated or out of order.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    shell::complain("starting a replica set of 3 members");
    let set = Arc::new(ReplicaSet::start(3)?);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(follow(&set, arguments))
}

async fn follow(set: &Arc<ReplicaSet>, arguments: &Arguments) -> anyhow::Result<()> {
    let plan: Arc<[Write]> = plan::plan(arguments.writes, arguments.seed).into();
    let client = Client::new(&set.uri())?;
    let resumes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&resumes);
    let mut stream = client
        .watch()
        .on_event(move |event| {
            if matches!(event, StreamEvent::Resumed { .. }) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await
        .context("cannot open the change stream")?;

    let started = Instant::now();
    let display = Display::new(plan.len());
    let writing = write(Arc::clone(set), Client::new(&set.uri())?, Arc::clone(&plan));
    let mut watching = Watching::new(&plan, display, client.clone());
    let result = watching.read(&mut stream, writing).await;
    watching.display.finish();
    let kill = result?;
    watching.ledger.finish();
    stream.close().await;

    let resumes = resumes.load(Ordering::Relaxed);
    let after_kill = watching
        .seen
        .iter()
        .find(|(place, at)| *place > kill.during && *at > kill.at);
    let recovery = after_kill.map(|(_, at)| at.duration_since(kill.at));
    summarise(&plan, &watching, (started.elapsed(), recovery), resumes);
    if !watching.ledger.is_exact() || watching.strangers > 0 {
        for deviation in watching.ledger.deviations() {
            shell::complain(&deviation.to_string());
        }
        bail!("not every write arrived exactly once and in order");
    }
    if resumes == 0 {
        bail!("the stream was never interrupted, so nothing was shown");
    }
    Ok(())
}

/// Writes the plan; halfway the primary is killed.
fn write(
    set: Arc<ReplicaSet>,
    client: Client,
    plan: Arc<[Write]>,
) -> JoinHandle<anyhow::Result<Kill>> {
    tokio::spawn(async move {
        let writer = Writer::new(&client, DATABASE)?;
        let half = plan.len() / 2;
        let mut killing = None;
        for (place, write) in plan.iter().enumerate() {
            if place == half {
                let set = Arc::clone(&set);
                killing = Some(tokio::task::spawn_blocking(move || {
                    set.primary()?.kill()?;
                    anyhow::Ok(Kill {
                        at: Instant::now(),
                        during: half,
                    })
                }));
            }
            let done = writer.write(write.statement(), 1).await;
            done.with_context(|| format!("{write:?}"))?;
        }
        let killing = killing.context("the plan is too short to kill anybody")?;
        writer.write(plan::end(), 1).await?;
        killing.await?
    })
}

struct Watching {
    display: Display,
    client: Client,
    /// The place in the plan of the write that each event is to tell of.
    places: BTreeMap<Key, usize>,
    ledger: Ledger<usize>,
    pulse: Pulse,
    /// Events of no write.
    strangers: u64,
    /// Each write whose event arrived, and when.
    seen: Vec<(usize, Instant)>,
}

impl Watching {
    fn new(plan: &[Write], display: Display, client: Client) -> Self {
        let mut ledger = Ledger::default();
        let mut places = BTreeMap::new();
        for (place, write) in plan.iter().enumerate() {
            ledger.expect(place);
            places.insert(write.key(), place);
        }
        Self {
            display,
            client,
            places,
            ledger,
            pulse: Pulse::default(),
            strangers: 0,
            seen: Vec::new(),
        }
    }

    fn record(&mut self, key: &Key, at: Instant) {
        self.pulse.beat(at);
        match self.places.get(key) {
            Some(place) => {
                self.ledger.arrive(*place);
                self.seen.push((*place, at));
            }
            None => self.strangers += 1,
        }
    }

    /// Reads until the writer's last word arrives.
    async fn read(
        &mut self,
        stream: &mut ChangeStream,
        mut writing: JoinHandle<anyhow::Result<Kill>>,
    ) -> anyhow::Result<Kill> {
        let mut kill = None;
        loop {
            let next = tokio::time::timeout(PATIENCE, stream.next_raw());
            let event = tokio::select! {
                written = &mut writing, if kill.is_none() => {
                    kill = Some(written??);
                    continue;
                }
                event = next => event.context("the stream is stuck")?,
            };
            let event = event.context("the stream has ended")??;
            match identify(&event)? {
                Seen::End => break,
                Seen::Write(key) => self.record(&key, Instant::now()),
            }
            self.display
                .update(self.pulse.events, self.client.primary());
        }
        match kill {
            Some(kill) => Ok(kill),
            None => writing.await?,
        }
    }
}

enum Seen {
    Write(Key),
    End,
}

/// Which write an event tells of.
fn identify(event: &RawEvent) -> anyhow::Result<Seen> {
    let namespace = event.namespace().context("an event without a namespace")?;
    anyhow::ensure!(namespace.database == DATABASE, "an event from {namespace}");
    if namespace.collection == Some(END) {
        return Ok(Seen::End);
    }
    let collection = COLLECTIONS
        .into_iter()
        .find(|name| Some(*name) == namespace.collection);
    let collection = collection.with_context(|| format!("an event from {namespace}"))?;
    let operation = event
        .operation_type()
        .context("an event without an operation")?;
    let kind = [Kind::Insert, Kind::Update, Kind::Delete]
        .into_iter()
        .find(|kind| kind.event() == operation.as_str());
    let kind = kind.with_context(|| format!("an event of type {operation}"))?;
    let number = match kind {
        Kind::Update => {
            let update = event
                .view()
                .update_description()
                .context("no updateDescription")?;
            update.get_document("updatedFields")?.get_i32("number")?
        }
        Kind::Insert | Kind::Delete => event
            .document_key()
            .context("no documentKey")?
            .get_i32("_id")?,
    };
    Ok(Seen::Write((collection, kind, number)))
}

fn summarise(
    plan: &[Write],
    watching: &Watching,
    (took, recovery): (Duration, Option<Duration>),
    resumes: usize,
) {
    let Watching { ledger, pulse, .. } = watching;
    let unknown = ledger.unknown() + watching.strangers;
    let seconds = took.as_secs_f64();
    let rows = [
        ("writes", plan.len().to_string()),
        ("events", pulse.events.to_string()),
        ("missing", ledger.missing().to_string()),
        ("repeated", ledger.repeated().to_string()),
        ("out of order", ledger.out_of_order().to_string()),
        ("unknown", unknown.to_string()),
        ("resumes", resumes.to_string()),
        (
            "longest gap",
            format!("{:.2} s", pulse.longest_gap.as_secs_f64()),
        ),
        (
            "kill to next event",
            recovery.map_or("never".to_owned(), |time| {
                format!("{:.2} s", time.as_secs_f64())
            }),
        ),
        ("took", format!("{seconds:.1} s")),
    ];
    for (name, value) in rows {
        shell::say(&format!("{name:>18}  {value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_demonstration_is_exact() {
        run(&Arguments {
            writes: 200,
            seed: 1,
        })
        .unwrap();
    }
}
