//! `cargo xtask soak`: a real replica set whose primary is killed, frozen, stepped down and cut off
//! again and again while writers write and streams are read in every way there is. In the end each
//! stream is held against the oplog: every event once, and in order.

mod book;
mod change;
mod judge;
mod promises;
mod readers;
mod report;
mod strikes;
mod writers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mongo_client::Client;
use testbed::cluster::{ReplicaSet, ReplicaSetOptions};
use tokio::task::JoinHandle;

use self::book::Book;
use self::judge::{Judge, Progress};
use self::promises::Promises;
use self::readers::Readers;
use self::report::Line;
use self::strikes::{Outcome, Striker};
use self::writers::{Office, WRITERS};
use crate::shell;

/// A line of progress comes so often.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// The books are looked into so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the streams and the judge may take to come to the end.
const LAST_MILE: Duration = Duration::from_secs(300);

/// Of each member. The oplog only has to reach back to the slowest stream.
const OPLOG_MEGABYTES: u32 = 600;

/// How to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long to strike. However short, the primary is struck once in each way.
    #[arg(long, default_value_t = 15.0)]
    minutes: f64,
    /// Which writes and which strikes, as far as that is ours to decide.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Documents to write each second, as far as the set takes them.
    #[arg(long, default_value_t = 3_000)]
    rate: u32,
}

/// What the parts of a run have in common.
struct Run {
    set: Arc<ReplicaSet>,
    start: Instant,
    books: Vec<Book>,
    promises: Arc<Promises>,
    progress: Arc<Progress>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
}

/// Runs the soak.
///
/// # Errors
/// The deployment cannot be started or does not recover, a stream fails or is stuck, or an event is
/// missing, repeated or out of order.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    shell::complain("starting a replica set of 3 members behind proxies");
    let mut options = ReplicaSetOptions::new(3);
    options.proxied = true;
    options.mongod.oplog_size = Some(OPLOG_MEGABYTES);
    let set = Arc::new(options.start()?);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(soak(set, arguments))
}

async fn soak(set: Arc<ReplicaSet>, arguments: &Arguments) -> anyhow::Result<()> {
    // A dead primary is noticed within a second or two.
    let uri = format!(
        "{}&heartbeatFrequencyMS=500&connectTimeoutMS=2000",
        set.uri()
    );
    let client = Client::new(&uri)?;
    let mut readers = Readers::open(&client, arguments.seed, set.folder().to_owned()).await?;
    let run = Run {
        start: Instant::now(),
        books: readers.books.clone(),
        promises: Arc::default(),
        progress: Arc::default(),
        outcomes: Arc::default(),
        set,
    };
    let at_start = report::resident();
    Line::head();
    let result = run
        .conduct(&mut readers, Client::new(&uri)?, arguments)
        .await;
    run.progress.is_abandoned.store(true, Ordering::Relaxed);
    if result.is_ok() {
        run.books.iter().for_each(Book::finish);
    }
    let complaints = run.report(at_start);
    result?;
    if !complaints.is_empty() {
        bail!("not every stream had every event exactly once and in order");
    }
    Ok(())
}

impl Run {
    /// Writes, strikes, quiets down, and waits until everybody is at the end.
    async fn conduct(
        &self,
        readers: &mut Readers,
        client: Client,
        arguments: &Arguments,
    ) -> anyhow::Result<()> {
        let judge = self.judge().await?;
        let office = Office {
            client,
            promises: Arc::clone(&self.promises),
            is_closing: Arc::new(AtomicBool::new(false)),
            start: self.start,
            seed: arguments.seed,
        };
        let share = f64::from(arguments.rate) / f64::from(WRITERS);
        let mut loads = tokio::task::JoinSet::new();
        for number in 0..WRITERS {
            loads.spawn(office.clone().load(number, share));
        }
        let rearranging = tokio::spawn(office.clone().rearrange());
        let striking = self.strike(readers.prompt.clone(), arguments);
        self.watch(readers, async move { striking.await? }).await?;

        office.is_closing.store(true, Ordering::Relaxed);
        let quiet = async move {
            while let Some(load) = loads.join_next().await {
                load??;
            }
            rearranging.await??;
            office.finish().await
        };
        self.watch(readers, quiet).await?;
        let all = async {
            judge.await??;
            anyhow::Ok(())
        };
        self.watch(readers, limited(all)).await?;
        let last = async {
            while let Some(read) = readers.tasks.join_next().await {
                read??;
            }
            anyhow::Ok(())
        };
        limited(last).await
    }

    /// Does a part of the run, says how it goes, and ends it when a reader has failed or its book is
    /// wrong already.
    async fn watch(
        &self,
        readers: &mut Readers,
        part: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        tokio::pin!(part);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut next_line = self.start.elapsed() + LINE_EVERY;
        loop {
            tokio::select! {
                result = &mut part => return result,
                Some(read) = readers.tasks.join_next() => read??,
                _ = look.tick() => {
                    if !self.books.iter().all(|book| book.pages().ledger.is_exact()) {
                        bail!("a stream deviates from the oplog");
                    }
                    if self.start.elapsed() >= next_line {
                        next_line += LINE_EVERY;
                        self.line().say(&self.books);
                    }
                }
            }
        }
    }

    async fn judge(&self) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
        let (set, books) = (Arc::clone(&self.set), self.books.clone());
        let judge = tokio::task::spawn_blocking(move || Judge::new(&set, books)).await??;
        let (set, promises) = (Arc::clone(&self.set), Arc::clone(&self.promises));
        let progress = Arc::clone(&self.progress);
        Ok(tokio::task::spawn_blocking(move || {
            judge.judge(&set, &promises, &progress)
        }))
    }

    fn strike(&self, books: Vec<Book>, arguments: &Arguments) -> JoinHandle<anyhow::Result<()>> {
        let (set, progress) = (Arc::clone(&self.set), Arc::clone(&self.progress));
        let (outcomes, start) = (Arc::clone(&self.outcomes), self.start);
        let random = fastrand::Rng::with_seed(arguments.seed);
        let end = start + Duration::from_secs_f64(arguments.minutes * 60.0);
        tokio::task::spawn_blocking(move || {
            let mut striker = Striker {
                set: &set,
                books,
                random,
                start,
                is_abandoned: &progress.is_abandoned,
            };
            striker.strike_until(end, |outcome| {
                let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                outcomes.push(outcome);
            })
        })
    }

    fn line(&self) -> Line {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        Line {
            elapsed: self.start.elapsed(),
            acknowledged: self.promises.made(),
            in_oplog: self.progress.entries.load(Ordering::Relaxed),
            strikes: outcomes.len(),
            last_strike: outcomes.last().map(|outcome| outcome.kind),
        }
    }

    /// Says all there is to say; returns what is wrong.
    fn report(&self, at_start: Option<u64>) -> Vec<String> {
        self.line().say(&self.books);
        report::streams(&self.books);
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        report::strikes(&outcomes);
        let mebibytes = |size: Option<u64>| size.map_or("?".to_owned(), |size| size.to_string());
        shell::say(&format!(
            "\n{} documents written and acknowledged, {} left open; resident memory {} MiB at the \
             start, {} at the end",
            self.promises.made(),
            self.promises.left_open(),
            mebibytes(at_start),
            mebibytes(report::resident()),
        ));
        let streams = self.books.iter().flat_map(Book::complaints);
        let complaints: Vec<_> = streams.chain(self.promises.complaints()).collect();
        for complaint in &complaints {
            shell::complain(complaint);
        }
        complaints
    }
}

/// # Errors
/// It takes too long.
async fn limited(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let done = tokio::time::timeout(LAST_MILE, work).await;
    done.context("the streams do not come to an end")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_strike_costs_or_repeats_an_event() {
        run(&Arguments {
            minutes: 0.0,
            seed: 4,
            rate: 400,
        })
        .unwrap();
    }
}
