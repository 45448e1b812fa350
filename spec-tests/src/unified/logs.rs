//! What clients write into their logs: how it is collected, and how it is compared.

use std::fmt;

use bson::{Bson, Document};
use testbed::journal::Journal;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::events::GRACE;
use super::matching::Matcher;
use super::schema::{ExpectedLog, ExpectedLogs, LogComponent, LogLevel, LogLevels};
use super::stop::{Problem, Run, Stop, diff};

/// What stands in the log where a secret was.
const REDACTED: &str = "REDACTED";

/// The messages of all clients of one case.
#[derive(Clone, Debug, Default)]
pub(super) struct Logs(Journal<Vec<Message>>);

/// One message, as it was written.
#[derive(Clone, Debug)]
struct Message {
    topology: i64,
    component: LogComponent,
    level: LogLevel,
    data: Document,
}

impl Logs {
    /// How many messages there are; those of a client that come later are behind this place.
    pub(super) fn len(&self) -> usize {
        self.0.read().len()
    }

    /// Compares what a client wrote behind a place with the sequence that was expected.
    pub(super) async fn check(
        &self,
        expected: &ExpectedLogs,
        (client, levels): (&ClientLogs, &LogLevels),
        matcher: Matcher<'_>,
    ) -> Run {
        let observed = |message: &&Message| {
            let lowest = levels.0.get(&message.component);
            message.topology == client.topology
                && lowest.is_some_and(|level| message.level <= *level)
        };
        let ignored = |message: &&Message| {
            let mut ignored = expected.ignore_messages.iter();
            ignored.any(|expected| check(expected, message, matcher).is_ok())
        };
        let counted = |messages: &Vec<Message>| {
            let messages = messages.iter().skip(client.start).filter(observed);
            let counted = messages.filter(|message| !ignored(message)).cloned();
            counted.collect::<Vec<_>>()
        };
        let wanted = expected.messages.len();
        // The comparison tells better what is missing.
        let has_enough = |all: &Vec<Message>| counted(all).len() >= wanted;
        let _ = self.0.wait(GRACE, has_enough).await;
        let actual = counted(&self.0.read());
        for (index, expected) in expected.messages.iter().enumerate() {
            let Some(message) = actual.get(index) else {
                return Err(Stop::fail(format!(
                    "log message {index}: expected {}, but there are only {}",
                    expected.data.0,
                    actual.len()
                )));
            };
            check(expected, message, matcher)
                .map_err(|stop| stop.at(format!("log message {index}")))?;
        }
        match actual.get(wanted) {
            Some(extra) if !expected.ignore_extra => Err(Stop::fail(format!(
                "log message {wanted}: {extra} is not expected"
            ))),
            _ => Ok(()),
        }
    }

    /// One line a message.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.read().iter().map(ToString::to_string).collect()
    }
}

/// Which messages are a client's.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLogs {
    /// The number of its topology, which all of its messages carry.
    pub(super) topology: i64,
    /// The messages before this place do not count.
    pub(super) start: usize,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {}", self.component, self.level, self.data)
    }
}

fn check(expected: &ExpectedLog, message: &Message, matcher: Matcher<'_>) -> Run {
    if expected.component != message.component || expected.level != message.level {
        return Err(Stop::fail(format!(
            "expected {:?} {:?}, got {message}",
            expected.component, expected.level
        )));
    }
    let wanted = &expected.data.0;
    matcher
        .root_document(wanted, &message.data)
        .map_err(|mismatch| {
            let (wanted, actual) = (wanted.clone().into(), Bson::from(message.data.clone()));
            let message = mismatch.to_string();
            let diff = Some(diff(&wanted, Some(&actual)));
            Stop::Fail(Problem { message, diff })
        })?;
    let Some(redacted) = expected.failure_is_redacted else {
        return Ok(());
    };
    match message.data.get_str("failure") {
        Ok(failure) if failure.contains(REDACTED) == redacted => Ok(()),
        _ => Err(Stop::fail(format!(
            "failure is redacted: not {redacted} in {message}"
        ))),
    }
}

impl<S: Subscriber> Layer<S> for Logs {
    // Whoever asks before it puts a message together asks with what is no event yet.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_span() || component(metadata.target()).is_some()
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let Some(component) = component(metadata.target()) else {
            return;
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let topology = fields.0.get("topologyId");
        let message = Message {
            topology: topology.and_then(Bson::as_i64).unwrap_or(-1),
            component,
            level: level(*metadata.level()),
            data: fields.0,
        };
        self.0.write(|messages| messages.push(message));
    }
}

fn component(target: &str) -> Option<LogComponent> {
    match target {
        "mongo_client::command" => Some(LogComponent::Command),
        "mongo_client::topology" => Some(LogComponent::Topology),
        "mongo_client::server_selection" => Some(LogComponent::ServerSelection),
        "mongo_client::connection" => Some(LogComponent::Connection),
        _ => None,
    }
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warning,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// The fields of a message or a span under their names, a message's text as `message`.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(pub(super) Document);

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.0.insert(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
