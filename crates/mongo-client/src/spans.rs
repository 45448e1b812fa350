//! What a client tells of its operations and commands by spans of `tracing` (OpenTelemetry).
//!
//! An operation has a span, in the caller's, and below it is one for each command that is sent for
//! it, further tries included. Their attributes are fields with the specification's names; name,
//! kind and status are the fields that `tracing-opentelemetry` reads: `otel.name`, `otel.kind`,
//! `otel.status_code` and `otel.status_description`. Every span has the field `topologyId`, as the
//! records of the log have it. All are of level info and of target `mongo_client::spans`.
//!
//! Nothing is put together unless the client is to have spans and a subscriber wants them.

mod text;

use bson::{RawDocument, Uuid};
use mongo_uri::ServerAddress;
use mongo_wire::{CommandReply, Element, Elements};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span, field, info_span};

use self::text::{Traced, query_text, summary};
use crate::error::{Error, Result};
use crate::events::{CommandFailure, CommandOrigin, is_sensitive, name_of};
use crate::logs::{host, port};

const TARGET: &str = "mongo_client::spans";

/// Says to a whole process whether clients have spans.
const ENABLED: &str = "OTEL_RUST_INSTRUMENTATION_MONGODB_ENABLED";
/// The same of the length of a command's text.
const QUERY_TEXT_MAX_LENGTH: &str = "OTEL_RUST_INSTRUMENTATION_MONGODB_QUERY_TEXT_MAX_LENGTH";

/// What all spans have, a failure's fields to be filled in later; then the fields of its own.
macro_rules! span {
    (parent: $parent:expr, $name:literal, $topology:expr, $($fields:tt)*) => {
        info_span!(
            target: TARGET,
            parent: $parent,
            $name,
            otel.kind = "client",
            otel.status_code = field::Empty,
            otel.status_description = field::Empty,
            db.system.name = "mongodb",
            exception.message = field::Empty,
            "exception.type" = field::Empty,
            exception.stacktrace = field::Empty,
            topologyId = $topology,
            $($fields)*
        )
    };
}

/// Whether a client tells of its operations and commands by spans; see
/// [`ClientOptions::tracing`](crate::ClientOptions::tracing).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TracingOptions {
    /// Whether it does. `None` leaves it to the environment variable
    /// `OTEL_RUST_INSTRUMENTATION_MONGODB_ENABLED`, which says so with `1`, `true` or `yes`.
    pub enabled: Option<bool>,
    /// How many characters of a command's text stand in its span (`db.query.text`); the rest is cut
    /// off, and with 0 there is no text. `None` leaves it to the environment variable
    /// `OTEL_RUST_INSTRUMENTATION_MONGODB_QUERY_TEXT_MAX_LENGTH`, without which there is none.
    pub query_text_max_length: Option<usize>,
}

/// The spans of one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans {
    is_enabled: bool,
    /// In characters.
    query_text_max_length: usize,
    topology_id: i64,
}

/// The span of an operation; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OperationSpan {
    span: Span,
    is_sensitive: bool,
}

/// The span of a command. It ends when this is dropped: as that of a command that was given up,
/// unless it was told before how it has [`ended`](Self::ended).
#[derive(Debug)]
pub(crate) struct CommandSpan(Span);

impl Spans {
    /// As the options say or, where they say nothing, the environment: a variable's value by its
    /// name.
    pub(crate) fn new(
        options: TracingOptions,
        environment: impl Fn(&str) -> Option<String>,
        topology_id: u64,
    ) -> Self {
        let says_yes = |value: String| {
            let yes = ["1", "true", "yes"];
            yes.iter().any(|yes| value.trim().eq_ignore_ascii_case(yes))
        };
        let enabled = || environment(ENABLED).is_some_and(says_yes);
        let length = || environment(QUERY_TEXT_MAX_LENGTH)?.trim().parse().ok();
        Self {
            is_enabled: options.enabled.unwrap_or_else(enabled),
            query_text_max_length: options
                .query_text_max_length
                .or_else(length)
                .unwrap_or_default(),
            topology_id: i64::try_from(topology_id).unwrap_or(i64::MAX),
        }
    }

    /// Whether the client is to have spans.
    pub(crate) fn are_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Whether somebody may want them just now.
    pub(crate) fn may_be_wanted(&self) -> bool {
        self.is_enabled && LevelFilter::current() >= LevelFilter::INFO
    }

    /// Begins the span of an operation in the current one.
    pub(crate) fn operation(
        &self,
        name: &str,
        database: &str,
        command: &RawDocument,
    ) -> OperationSpan {
        self.begin((name, database, command), || Span::current().id())
    }

    /// The same of an operation that runs elsewhere than where it was asked for: in that span, if
    /// there is one.
    pub(crate) fn operation_for(
        &self,
        caller: Option<&Span>,
        database: &str,
        command: &RawDocument,
    ) -> OperationSpan {
        let of = (name_of(command), database, command);
        self.begin(of, || caller.and_then(Span::id))
    }

    fn begin(
        &self,
        (name, database, command): (&str, &str, &RawDocument),
        parent: impl FnOnce() -> Option<tracing::Id>,
    ) -> OperationSpan {
        if !self.may_be_wanted() {
            return OperationSpan {
                span: Span::none(),
                is_sensitive: false,
            };
        }
        let collection = collection_of(command, database);
        let summary = || summary(name, database, collection);
        let span = span!(
            parent: parent(),
            "operation",
            self.topology_id,
            otel.name = summary(),
            db.namespace = database,
            db.collection.name = collection,
            db.operation.name = name,
            db.operation.summary = summary(),
        );
        OperationSpan {
            is_sensitive: is_sensitive(command),
            span,
        }
    }

    /// Begins the span of a command in the current one, its operation's. What goes beside the
    /// command stands in the documents; `$db` is in the first of them. A command that carries
    /// secrets has no span.
    pub(crate) fn command(
        &self,
        origin: &CommandOrigin,
        command: &RawDocument,
        beside: [Option<&RawDocument>; 2],
    ) -> CommandSpan {
        if is_sensitive(command) {
            return CommandSpan::none();
        }
        let name = name_of(command);
        let database = beside[0].and_then(|envelope| envelope.get_str("$db").ok());
        let database = database.unwrap_or_default();
        let collection = collection_of(command, database);
        let sent = |key| {
            let documents = std::iter::once(command).chain(beside.into_iter().flatten());
            documents
                .into_iter()
                .find_map(|all| Elements::find(all, key))
        };
        let limit = self.query_text_max_length;
        CommandSpan(span!(
            parent: Span::current().id(),
            "command",
            self.topology_id,
            otel.name = name,
            db.namespace = database,
            db.collection.name = collection,
            db.command.name = name,
            db.query.summary = summary(name, database, collection),
            db.query.text = (limit > 0).then(|| query_text(command, beside, limit)),
            db.response.status_code = field::Empty,
            db.mongodb.cursor_id = cursor_used(command),
            db.mongodb.driver_connection_id = i64::try_from(origin.connection).ok(),
            db.mongodb.server_connection_id = origin.server_connection,
            db.mongodb.lsid = sent("lsid").and_then(session_id),
            db.mongodb.txn_number = sent("txnNumber").and_then(|number| number.as_i64()),
            network.transport = transport(&origin.server),
            server.address = host(&origin.server),
            server.port = port(&origin.server).map(i64::from),
        ))
    }
}

impl OperationSpan {
    /// For what is done for the operation; see [`Instrument`].
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Whether anybody wants the span.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.span.is_disabled()
    }

    /// Does all of the operation within its span, and records its failure.
    pub(crate) async fn run<T>(self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = work.instrument(self.span()).await;
        if let Err(error) = &result {
            self.failed(error);
        }
        result
    }

    /// Records what the operation has failed with. What a server says of a command that carries
    /// secrets stays where it is.
    pub(crate) fn failed(&self, error: &Error) {
        if !self.is_wanted() {
            return;
        }
        let mut failure = Traced::of_error(error);
        if self.is_sensitive && error.server_error().is_some() {
            failure.redact();
        }
        record(&self.span, &failure);
    }
}

impl CommandSpan {
    pub(crate) fn none() -> Self {
        Self(Span::none())
    }

    /// Does something as part of the command.
    pub(crate) fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.in_scope(work)
    }

    /// Records how the command has ended.
    pub(crate) fn ended(mut self, result: &Result<CommandReply>) {
        let span = std::mem::replace(&mut self.0, Span::none());
        if span.is_disabled() {
            return;
        }
        let failure = match result {
            Err(error) => Traced::of_error(error),
            Ok(reply) => match reply.server_error() {
                Ok(None) => {
                    if let Some(id) = cursor_made(reply) {
                        span.record("db.mongodb.cursor_id", id);
                    }
                    return;
                }
                Ok(Some(error)) => {
                    if let Some(code) = error.code {
                        let code = code.to_string();
                        span.record("db.response.status_code", code);
                    }
                    Traced::new("Server", &error)
                }
                Err(error) => Traced::new("Reply", &error),
            },
        };
        record(&span, &failure);
    }
}

impl Drop for CommandSpan {
    fn drop(&mut self) {
        if !self.0.is_disabled() {
            let what = CommandFailure::Cancelled.to_string();
            self.0.record("otel.status_code", "error");
            self.0.record("otel.status_description", what);
        }
    }
}

fn record(span: &Span, failure: &Traced) {
    span.record("otel.status_code", "error");
    span.record("otel.status_description", &failure.message);
    span.record("exception.type", &failure.type_name);
    span.record("exception.message", &failure.message);
    span.record("exception.stacktrace", &failure.trace);
}

/// Commands whose first value names the collection that they are about.
const ABOUT_COLLECTIONS: [&str; 25] = [
    "aggregate",
    "collMod",
    "collStats",
    "compact",
    "convertToCapped",
    "count",
    "create",
    "createIndexes",
    "createSearchIndexes",
    "delete",
    "distinct",
    "drop",
    "dropIndexes",
    "dropSearchIndex",
    "find",
    "findAndModify",
    "findandmodify",
    "insert",
    "killCursors",
    "listIndexes",
    "mapReduce",
    "reIndex",
    "update",
    "updateSearchIndex",
    "validate",
];

/// The collection that a command is about; of the database `admin` none is told.
fn collection_of<'a>(command: &'a RawDocument, database: &str) -> Option<&'a str> {
    let first = Elements::of(command).next()?.ok()?;
    let value = match str::from_utf8(first.key()).ok()? {
        "getMore" => Elements::find(command, "collection")?,
        name if ABOUT_COLLECTIONS.contains(&name) => first,
        _ => return None,
    };
    let collection = value.as_str().filter(|_| database != "admin");
    // A cursor of a whole database has no collection.
    collection.filter(|collection| !collection.starts_with("$cmd."))
}

/// The cursor that a command is about.
fn cursor_used(command: &RawDocument) -> Option<i64> {
    let first = Elements::of(command).next()?.ok()?;
    match first.key() {
        b"getMore" => first.as_i64(),
        b"killCursors" => {
            let cursors = Elements::find(command, "cursors")?.as_array()?;
            Elements::of(cursors).next()?.ok()?.as_i64()
        }
        _ => None,
    }
}

/// The cursor that a reply tells of; one that has ended with its first batch is none.
fn cursor_made(reply: &CommandReply) -> Option<i64> {
    let cursor = Elements::find(reply.document().as_raw(), "cursor")?.as_document()?;
    let id = Elements::find(cursor, "id")?.as_i64()?;
    (id != 0).then_some(id)
}

/// The UUID of a session, as text.
fn session_id(lsid: Element<'_>) -> Option<String> {
    let (_, id) = Elements::find(lsid.as_document()?, "id")?.as_binary()?;
    Some(Uuid::from_bytes(id.try_into().ok()?).to_string())
}

fn transport(server: &ServerAddress) -> &'static str {
    match server {
        ServerAddress::Tcp { .. } => "tcp",
        ServerAddress::Unix { .. } => "unix",
    }
}

#[cfg(test)]
mod tests;
