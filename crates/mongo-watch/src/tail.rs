//! `mongo-watch watch`.

use std::future::IntoFuture as _;
use std::io::{self, BufWriter, Stdout, Write as _};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use mongo_client::change_stream::{
    EventFilter, GapCause, GapEnd, HistoryLost, NamespacePattern, OnInvalidate, OperationType,
    Oversize, RawEvent, StreamEvent,
};
use mongo_client::checkpoint::{CheckpointStore as _, FileStore};
use mongo_client::sdam::TopologyType;
use mongo_client::wire::Json;
use mongo_client::{ChangeStream, Client, Error, Verdict, Watch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Failure;
use crate::place::Place;

/// How long to wait for a server in silence.
const SILENCE: Duration = Duration::from_secs(3);

/// How long closing may take after Ctrl-C; the output may be blocked for ever.
const CLOSING: Duration = Duration::from_secs(5);

/// What to follow.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The deployment: `mongodb://HOST[:PORT][,HOST...]/[?OPTION=VALUE&...]`
    uri: String,
    /// DATABASE or DATABASE.COLLECTION; the whole cluster if it is not given.
    target: Option<Target>,
    /// Stop after so many events.
    #[arg(long)]
    count: Option<NonZeroU64>,
    /// Keep the place of the last event written in this file, and start there if it exists.
    #[arg(long, value_name = "FILE")]
    resume_file: Option<PathBuf>,
    #[command(flatten)]
    choices: Choices,
}

/// Which events to print, and what to do where a stream could end.
#[derive(clap::Args)]
struct Choices {
    /// Only these namespaces: DATABASE, DATABASE.COLLECTION, either with * at its end.
    #[arg(long, value_name = "PATTERN")]
    include: Vec<NamespacePattern>,
    /// Not these namespaces, even if they are included.
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<NamespacePattern>,
    /// Only these operations, such as insert or drop.
    #[arg(long, value_name = "OPERATION")]
    operation: Vec<String>,
    /// Only these fields of an event, besides _id, operationType, ns and clusterTime.
    #[arg(
        long,
        value_name = "FIELD",
        value_delimiter = ',',
        conflicts_with = "without"
    )]
    fields: Vec<String>,
    /// Not these fields of an event.
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    without: Vec<String>,
    /// When the oplog no longer reaches back to where the stream stands: end, or go on from now.
    #[arg(long, value_enum, default_value_t)]
    on_history_lost: OnHistoryLost,
    /// When what is watched was dropped or renamed: end, or go on under the same name.
    #[arg(long, value_enum, default_value_t)]
    on_invalidate: AtInvalidate,
    /// With an event of more than 16 MiB: end, join its fragments (up to 256 MiB), or leave it out.
    #[arg(long, value_enum, default_value_t)]
    on_oversize: AtOversize,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum OnHistoryLost {
    #[default]
    Fail,
    Now,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum AtInvalidate {
    #[default]
    End,
    Continue,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum AtOversize {
    #[default]
    Fail,
    Join,
    Skip,
}

/// The largest event that is put together.
const LARGEST_EVENT: usize = 256 << 20;

impl Choices {
    fn apply(&self, watch: Watch) -> Watch {
        let operations = self.operation.iter().map(String::as_str);
        let filter = EventFilter::default()
            .include(self.include.iter().cloned())
            .exclude(self.exclude.iter().cloned())
            .operations(operations.map(OperationType::from))
            .only_fields(&self.fields)
            .without_fields(&self.without);
        let watch = watch.filter(filter);
        let watch = match self.on_history_lost {
            OnHistoryLost::Fail => watch,
            OnHistoryLost::Now => watch.history_lost(HistoryLost::FromNow),
        };
        let watch = match self.on_invalidate {
            AtInvalidate::End => watch,
            AtInvalidate::Continue => watch.on_invalidate(OnInvalidate::Continue),
        };
        let limit = LARGEST_EVENT;
        match self.on_oversize {
            AtOversize::Fail => watch,
            AtOversize::Join => watch.oversize(Oversize::Join { limit }),
            AtOversize::Skip => watch.oversize(Oversize::Skip),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    database: String,
    collection: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (database, collection) = match text.split_once('.') {
            Some((database, collection)) => (database, Some(collection)),
            None => (text, None),
        };
        if database.is_empty() || collection == Some("") {
            return Err("expected DATABASE or DATABASE.COLLECTION".to_owned());
        }
        Ok(Self {
            database: database.to_owned(),
            collection: collection.map(str::to_owned),
        })
    }
}

/// Follows until the count is reached, a signal comes, the reader of the output has gone, or the
/// stream ends.
///
/// # Errors
/// See [`Failure`].
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Failure::Output)?;
    runtime.block_on(async {
        let mut stop = stop_signal().map_err(Failure::Output)?;
        let client = Client::connect(&arguments.uri).await?;
        for warning in client.warnings() {
            say(&format!("mongo-watch: warning: {warning}"));
        }
        let store = arguments.resume_file.as_ref().map(FileStore::new);
        let stream = tokio::select! {
            () = stopped(&mut stop) => return Ok(()),
            stream = open(&client, arguments, store.as_ref()) => stream?,
        };
        let result = follow(stream, arguments.count, stop, store).await;
        client.shutdown().await;
        result
    })
}

/// The stream that the arguments ask for.
async fn prepare(
    client: &Client,
    arguments: &Arguments,
    store: Option<&FileStore>,
) -> Result<Watch, Failure> {
    let watch = match &arguments.target {
        None => client.watch(),
        Some(Target {
            database,
            collection: None,
        }) => client.database(database).watch(),
        Some(Target {
            database,
            collection: Some(collection),
        }) => client.database(database).collection(collection).watch(),
    };
    let mut watch = arguments.choices.apply(watch);
    if let Some(store) = store {
        watch = watch.resume_from(store.load().await?);
    }
    Ok(watch)
}

/// `mongo-watch check`: what the stream would find.
///
/// # Errors
/// [`Failure::Check`] if it could not be opened, and whatever prevents an answer.
pub(crate) fn check(arguments: &Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Output)?;
    runtime.block_on(async {
        let client = Client::connect(&arguments.uri).await?;
        let store = arguments.resume_file.as_ref().map(FileStore::new);
        let watch = prepare(&client, arguments, store.as_ref()).await?;
        let report = watch.check().await?;
        for finding in &report.findings {
            writeln!(io::stdout(), "{finding}").map_err(Failure::Output)?;
        }
        client.shutdown().await;
        match report.verdict() {
            Verdict::Failure => Err(Failure::Check),
            _ => Ok(()),
        }
    })
}

/// Opens the stream; says what is known of the deployment when that takes long.
async fn open(
    client: &Client,
    arguments: &Arguments,
    store: Option<&FileStore>,
) -> Result<ChangeStream, Failure> {
    let watch = prepare(client, arguments, store).await?;
    let opening = watch.on_event(tell).into_future();
    tokio::pin!(opening);
    tokio::select! {
        stream = &mut opening => return Ok(stream?),
        () = tokio::time::sleep(SILENCE) => {}
    }
    let topology = client.topology();
    let is_found = match topology.topology_type {
        TopologyType::Single | TopologyType::Sharded => true,
        _ => topology.primary().is_some(),
    };
    let what = if is_found {
        "waiting for a server to open the stream"
    } else {
        "still looking for a server"
    };
    say(&format!("mongo-watch: {what}: {topology}"));
    Ok(opening.await?)
}

async fn follow(
    mut stream: ChangeStream,
    count: Option<NonZeroU64>,
    mut stop: watch::Receiver<bool>,
    store: Option<FileStore>,
) -> Result<(), Failure> {
    let mut output = Output::new(count);
    let mut place = Place::new(store);
    // The first place is worth keeping, too: nothing from here on is missed.
    place.keep(&stream).await?;
    while output.is_open {
        let event = match stream.next_received() {
            Some(event) => event,
            None => {
                // Nothing more for now: the reader gets what there is.
                output.flush()?;
                if place.is_overdue() {
                    output.keep(&mut place, &stream).await?;
                }
                tokio::select! {
                    () = stopped(&mut stop) => break,
                    () = place.is_due() => continue,
                    event = stream.next_raw() => match event {
                        Some(event) => event,
                        None => break,
                    },
                }
            }
        };
        match event {
            Ok(event) => output.write(&event)?,
            // With a time limit: nothing has come within it, and the stream goes on.
            Err(Error::OperationTimeout { .. }) => continue,
            Err(error) => {
                output.keep(&mut place, &stream).await?;
                return Err(error.into());
            }
        }
        if place.is_overdue() {
            output.keep(&mut place, &stream).await?;
        }
        if *stop.borrow() {
            break;
        }
    }
    output.keep(&mut place, &stream).await?;
    stream.close().await;
    Ok(())
}

/// Lines on stdout, as many as are asked for, as long as somebody reads them.
struct Output {
    out: BufWriter<Stdout>,
    line: String,
    left: Option<NonZeroU64>,
    is_open: bool,
    has_reader: bool,
}

impl Output {
    fn new(left: Option<NonZeroU64>) -> Self {
        Self {
            out: BufWriter::with_capacity(64 * 1024, io::stdout()),
            line: String::new(),
            left,
            is_open: true,
            has_reader: true,
        }
    }

    fn write(&mut self, event: &RawEvent) -> Result<(), Failure> {
        // A line is written whole or not at all.
        self.line.clear();
        let json = Json::relaxed(event.document());
        json.write_to(&mut self.line).map_err(Failure::Unreadable)?;
        self.line.push('\n');
        let written = self.out.write_all(self.line.as_bytes());
        self.check(written)?;
        if let Some(left) = self.left {
            self.left = NonZeroU64::new(left.get() - 1);
            self.is_open &= self.left.is_some();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.out.flush();
        self.check(flushed)
    }

    /// Keeps the place behind what was written. What a reader that has gone has not read is not
    /// behind it.
    async fn keep(&mut self, place: &mut Place, stream: &ChangeStream) -> Result<(), Failure> {
        self.flush()?;
        if !self.has_reader {
            return Ok(());
        }
        place.keep(stream).await
    }

    /// A reader that has gone is an end, not a failure.
    fn check(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_open = false;
                self.has_reader = false;
                Ok(())
            }
            other => other.map_err(Failure::Output),
        }
    }
}

/// Turns true at the first SIGINT or SIGTERM. What then takes too long, such as a write that
/// nobody reads, is cut short.
fn stop_signal() -> io::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
        tokio::time::sleep(CLOSING).await;
        std::process::exit(0);
    });
    Ok(stopped)
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives until the process ends.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What happens to the stream, for the operator.
fn tell(event: &StreamEvent) {
    match event {
        StreamEvent::Interrupted { cause, delay, .. } if delay.is_zero() => {
            say(&format!("mongo-watch: interrupted, resuming: {cause}"));
        }
        StreamEvent::Interrupted { cause, delay, .. } => {
            say(&format!(
                "mongo-watch: interrupted, resuming in {delay:.1?}: {cause}"
            ));
        }
        StreamEvent::Resumed { .. } => say("mongo-watch: resumed"),
        StreamEvent::Invalidated { .. } => {
            say("mongo-watch: what is watched was dropped or renamed; going on under its name");
        }
        StreamEvent::Gap(gap) => {
            let time = |end: &GapEnd| match end.cluster_time {
                Some(time) => format!("Timestamp({}, {})", time.time, time.increment),
                None => "an unknown time".to_owned(),
            };
            let why = match gap.cause {
                GapCause::HistoryLost => "the oplog no longer has them",
                _ => "too large",
            };
            let (from, to) = (time(&gap.from), time(&gap.to));
            say(&format!(
                "mongo-watch: events left out between {from} and {to}: {why}"
            ));
        }
        _ => {}
    }
}

/// One message on stderr; if nobody reads it, so be it.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_split_at_its_first_dot() {
        let target = |database: &str, collection: Option<&str>| Target {
            database: database.to_owned(),
            collection: collection.map(str::to_owned),
        };
        for (text, expected) in [
            ("shop", Ok(target("shop", None))),
            ("shop.orders", Ok(target("shop", Some("orders")))),
            ("shop.orders.2026", Ok(target("shop", Some("orders.2026")))),
            ("", Err(())),
            (".orders", Err(())),
            ("shop.", Err(())),
        ] {
            assert_eq!(text.parse::<Target>().map_err(|_| ()), expected, "{text:?}");
        }
    }
}
