//! What is done to the primary, in an order that a seed decides.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bson::rawdoc;
use testbed::cluster::{Member, ReplicaSet};
use testbed::proxy::{Cut, Direction, Proxy};

use super::book::{Book, Strike};

/// How long the streams may take to go on behind a strike; elections take seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often the books are looked into meanwhile.
const PACE: Duration = Duration::from_millis(20);

/// A kind of strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `kill -9`, and started again.
    Kill,
    /// SIGSTOP, and SIGCONT.
    Freeze,
    StepDown,
    /// All its connections end, once or several times.
    Cut,
    /// Nothing gets through to it or from it.
    Partition,
    /// What is said to it gets there, and no answer comes back.
    HalfOpen,
}

pub(crate) const KINDS: [Kind; 6] = [
    Kind::Kill,
    Kind::Freeze,
    Kind::StepDown,
    Kind::Cut,
    Kind::Partition,
    Kind::HalfOpen,
];

/// A strike, and how long each of the streams took to go on.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kind: Kind,
    pub(crate) recoveries: Vec<Duration>,
}

/// Strikes again and again.
#[derive(Debug)]
pub(crate) struct Striker<'a> {
    pub(crate) set: &'a ReplicaSet,
    /// Those whose recovery is waited for.
    pub(crate) books: Vec<Book>,
    pub(crate) random: fastrand::Rng,
    pub(crate) start: Instant,
    pub(crate) is_abandoned: &'a AtomicBool,
}

impl Striker<'_> {
    /// Strikes with each kind in turn until the time is over, and with each at least once.
    ///
    /// # Errors
    /// The set does not recover, or a stream does not.
    pub(crate) fn strike_until(
        &mut self,
        end: Instant,
        tell: impl Fn(Outcome),
    ) -> anyhow::Result<()> {
        let mut rounds = 0;
        while rounds == 0 || Instant::now() < end {
            let mut kinds = KINDS;
            self.random.shuffle(&mut kinds);
            for kind in kinds {
                if self.is_abandoned() || (rounds > 0 && Instant::now() >= end) {
                    return Ok(());
                }
                thread::sleep(self.between(100, 2_000));
                let recoveries = self.strike(kind).with_context(|| format!("{kind:?}"))?;
                tell(Outcome { kind, recoveries });
            }
            rounds += 1;
        }
        Ok(())
    }

    /// One strike and everybody's recovery from it.
    fn strike(&mut self, kind: Kind) -> anyhow::Result<Vec<Duration>> {
        let primary = self.set.primary()?;
        let blow = self.begin(kind, primary)?;
        for book in &self.books {
            book.struck(blow);
        }
        self.end(kind, primary)?;
        self.set.wait_for_primary()?;
        self.set.wait_for_secondaries()?;
        self.wait_for_recovery()
    }

    fn begin(&mut self, kind: Kind, primary: &Member) -> anyhow::Result<Strike> {
        match kind {
            Kind::Kill => primary.kill()?,
            Kind::Freeze => primary.pause()?,
            Kind::StepDown => {
                // By force, for under load no secondary may be up to date within the time.
                let command = rawdoc! {
                    "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 3, "force": true,
                };
                primary.run_command("admin", &command)?;
            }
            Kind::Cut => proxy(primary)?.cut(Cut::Reset),
            Kind::Partition => proxy(primary)?.partition(),
            Kind::HalfOpen => proxy(primary)?.stall(Direction::ToClient),
        }
        Ok(Strike {
            at: Instant::now(),
            sent: i64::try_from(self.start.elapsed().as_micros())?,
        })
    }

    /// Lets it last for a while, and heals it. Not every strike outlasts an election timeout.
    fn end(&mut self, kind: Kind, primary: &Member) -> anyhow::Result<()> {
        match kind {
            Kind::Kill => {
                thread::sleep(self.between(0, 4_000));
                primary.restart()
            }
            Kind::Freeze => {
                thread::sleep(self.between(500, 7_000));
                primary.resume()
            }
            Kind::StepDown => Ok(()),
            Kind::Cut => {
                for _ in 0..self.random.usize(0..5) {
                    thread::sleep(self.between(0, 200));
                    let how = *self
                        .random
                        .choice(&[Cut::Close, Cut::Reset])
                        .unwrap_or(&Cut::Reset);
                    proxy(primary)?.cut(how);
                }
                Ok(())
            }
            Kind::Partition | Kind::HalfOpen => {
                thread::sleep(self.between(500, 7_000));
                proxy(primary)?.heal()
            }
        }
    }

    /// Waits until every stream has an event of a write that was sent behind the strike.
    fn wait_for_recovery(&self) -> anyhow::Result<Vec<Duration>> {
        let started = Instant::now();
        loop {
            let recoveries: Vec<_> = self.books.iter().map(Book::recovery).collect();
            if self.is_abandoned() || recoveries.iter().all(Option::is_some) {
                return Ok(recoveries.into_iter().flatten().collect());
            }
            if started.elapsed() > PATIENCE {
                let late = self.books.iter().filter(|book| book.recovery().is_none());
                let late: Vec<_> = late.map(Book::name).collect();
                bail!("no event within {PATIENCE:?} for {late:?}");
            }
            thread::sleep(PACE);
        }
    }

    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.random.u64(least..most))
    }

    fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Relaxed)
    }
}

fn proxy(member: &Member) -> anyhow::Result<&Proxy> {
    member
        .proxy()
        .context("the set's members are behind proxies")
}
