//! Change streams from end to end: this client, the official Rust driver and PyMongo follow the
//! same stream of a replay server, in turns, each in a process of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use testbed::proxy::{Direction, Proxy};
use testbed::pymongo;
use testbed::replay::{Replay, ReplayServer};

use super::{plot, table};
use crate::shell;

/// How often each client has its turn.
const ROUNDS: usize = 5;
/// Seconds of a turn.
const TURN: &str = "1";
/// Events of a batch.
const BATCH: i32 = 1_000;
/// What a distant server adds in each direction.
const LATENCY: Duration = Duration::from_millis(10);
/// Batches that are drained from a distant server.
const BACKLOG: u64 = 50;

/// Whose client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    Ours,
    RustDriver,
    PyMongo,
}

/// One client in one way of using it.
struct Contestant {
    maker: Maker,
    way: &'static str,
    /// Whom it is held against, and how many times as fast it should be.
    goals: &'static [(Maker, &'static str, f64)],
}

const fn contestant(
    maker: Maker,
    way: &'static str,
    goals: &'static [(Maker, &'static str, f64)],
) -> Contestant {
    Contestant { maker, way, goals }
}

use Maker::{Ours, PyMongo, RustDriver};

/// Who takes events from a server nearby, as fast as it can.
const NEARBY: &[Contestant] = &[
    contestant(Ours, "discard", &[]),
    contestant(
        Ours,
        "batch",
        &[(RustDriver, "raw", 5.0), (Ours, "discard", 0.7)],
    ),
    contestant(
        Ours,
        "raw",
        &[(RustDriver, "raw", 5.0), (Ours, "discard", 0.7)],
    ),
    contestant(
        Ours,
        "exhaust",
        &[(RustDriver, "raw", 5.0), (Ours, "discard", 0.7)],
    ),
    contestant(Ours, "raw, on demand", &[]),
    contestant(Ours, "typed", &[(RustDriver, "typed", 4.0)]),
    contestant(Ours, "document", &[(RustDriver, "document", 4.0)]),
    contestant(RustDriver, "raw", &[]),
    contestant(RustDriver, "typed", &[]),
    contestant(RustDriver, "document", &[]),
    contestant(PyMongo, "raw", &[]),
    contestant(PyMongo, "document", &[]),
];

/// Who drains a backlog from a server far away, with 20 microseconds of work for each event.
const DISTANT: &[Contestant] = &[
    contestant(Ours, "raw", &[]),
    contestant(Ours, "exhaust", &[]),
    contestant(RustDriver, "raw", &[]),
    contestant(Ours, "raw and work", &[(RustDriver, "raw and work", 1.8)]),
    contestant(
        Ours,
        "exhaust and work",
        &[
            (RustDriver, "raw and work", 1.8),
            (Ours, "raw and work", 1.0),
        ],
    ),
    contestant(RustDriver, "raw and work", &[]),
];

impl Maker {
    fn name(self) -> &'static str {
        match self {
            Ours => "this client",
            RustDriver => "Rust driver",
            PyMongo => "PyMongo",
        }
    }
}

/// The programs of the makers.
struct Programs {
    ours: PathBuf,
    rust_driver: PathBuf,
    pymongo: PathBuf,
    script: PathBuf,
}

/// Measures, prints the table, and leaves it and a plot in the folder.
///
/// # Errors
/// When a client does not build or run, or the folder cannot be written.
pub(super) fn run(folder: &Path) -> anyhow::Result<()> {
    let programs = Programs::build()?;
    let server = ReplayServer::start(&Replay::of_orders(BATCH, u64::MAX))?;
    let turn = ["seconds".to_owned(), TURN.to_owned()];
    let nearby = programs.compare(NEARBY, &server.uri(), &turn)?;
    drop(server);

    let server = ReplayServer::start(&Replay::of_orders(BATCH, BACKLOG))?;
    let proxy = Proxy::start(server.address())?;
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.set_latency(direction, LATENCY);
    }
    let uri = format!("mongodb://{}/?directConnection=true", proxy.address());
    // The first event is not counted.
    let backlog = BACKLOG * u64::from(BATCH.unsigned_abs()) - 1;
    let drained = ["events".to_owned(), backlog.to_string()];
    let distant = programs.compare(DISTANT, &uri, &drained)?;

    let mut lines = vec![format!(
        "{:<28} {:>12}  goals",
        "1,000 events of 600 B a batch", "events/s"
    )];
    lines.extend(lines_of(NEARBY, &nearby));
    lines.push(format!(
        "{:<28} {:>12}  goals",
        "the same, 20 ms away", "events/s"
    ));
    lines.extend(lines_of(DISTANT, &distant));
    let text = lines.join("\n");
    fs::create_dir_all(folder)?;
    fs::write(folder.join("streams.txt"), format!("{text}\n"))?;
    let bars: Vec<_> = NEARBY.iter().map(Contestant::name).zip(nearby).collect();
    let title = "Change events a second, 1,000 events of 600 bytes a batch";
    fs::write(folder.join("streams.svg"), plot::bars(title, &bars))?;
    shell::say(&text);
    Ok(())
}

impl Contestant {
    fn name(&self) -> String {
        format!("{}, {}", self.maker.name(), self.way)
    }
}

fn lines_of(contestants: &[Contestant], rates: &[f64]) -> Vec<String> {
    let rate_of = |maker, way| {
        let same = |other: &&Contestant| other.maker == maker && other.way == way;
        let place = contestants.iter().position(|other| same(&other));
        place.map_or(f64::NAN, |place| rates[place])
    };
    let line = |(contestant, rate): (&Contestant, &f64)| {
        let goals = contestant.goals.iter().map(|(maker, way, least)| {
            let ratio = rate / rate_of(*maker, *way);
            let missed = if ratio >= *least { "" } else { ": MISSED" };
            let rival = format!("{}, {way}", maker.name());
            format!("{ratio:.2} times {rival} (at least {least}{missed})")
        });
        let goals: Vec<_> = goals.collect();
        format!(
            "{:<28} {rate:>12.0}  {}",
            contestant.name(),
            goals.join("; ")
        )
    };
    contestants.iter().zip(rates).map(line).collect()
}

impl Programs {
    fn build() -> anyhow::Result<Self> {
        let root = shell::root();
        let peers = root.join("benches/peers");
        let target = root.join("target/bench/peers");
        let args = ["build", "--release", "--quiet"];
        shell::run(
            shell::cargo()
                .args(args)
                .args(["-p", "benches", "--bin", "stream_client"]),
        )?;
        let mut command = shell::cargo();
        command.args(args).current_dir(&peers);
        shell::run(command.arg("--target-dir").arg(&target))?;
        let own = std::env::var_os("CARGO_TARGET_DIR");
        let own = own.map_or_else(|| root.join("target"), PathBuf::from);
        Ok(Self {
            ours: own.join("release/stream_client"),
            rust_driver: target.join("release/peers"),
            pymongo: pymongo::obtain()?,
            script: peers.join("pymongo_client.py"),
        })
    }

    /// The median of each contestant's rounds, in events a second.
    fn compare(
        &self,
        contestants: &[Contestant],
        uri: &str,
        amount: &[String; 2],
    ) -> anyhow::Result<Vec<f64>> {
        let mut rates = vec![Vec::new(); contestants.len()];
        for _ in 0..ROUNDS {
            for (contestant, rates) in contestants.iter().zip(&mut rates) {
                rates.push(self.rate(contestant, uri, amount)?);
            }
        }
        let medians = rates
            .into_iter()
            .map(|rates| table::median(rates.into_iter()));
        Ok(medians.collect())
    }

    fn rate(
        &self,
        contestant: &Contestant,
        uri: &str,
        amount: &[String; 2],
    ) -> anyhow::Result<f64> {
        let [unit, amount] = amount;
        let arguments = [uri, contestant.way, unit, amount];
        let output = match contestant.maker {
            Ours => shell::read(Command::new(&self.ours).args(arguments))?,
            RustDriver => shell::read(Command::new(&self.rust_driver).args(arguments))?,
            PyMongo => {
                let mut all = vec![self.script.as_os_str()];
                all.extend(arguments.map(OsStr::new));
                pymongo::python(&self.pymongo, &all)?
            }
        };
        let figures = output.trim().split_once(' ');
        let (events, seconds) = figures.with_context(|| format!("{output:?} are no figures"))?;
        Ok(events.parse::<f64>()? / seconds.parse::<f64>()?)
    }
}
