//! The events of commands (Command Logging and Monitoring, "Events API").

use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{RawDocument, RawDocumentBuf};
use mongo_uri::ServerAddress;
use mongo_wire::{CommandReply, Document, ServerError};

use super::Events;
use crate::error::{Error, Result};

/// What stands in the place of what must not be shown.
pub(crate) const REDACTED: &str = "REDACTED";

/// Commands that carry secrets, in whatever case (Command Logging and Monitoring, "Security").
const SENSITIVE: [&str; 9] = [
    "authenticate",
    "saslstart",
    "saslcontinue",
    "getnonce",
    "createuser",
    "updateuser",
    "copydbgetnonce",
    "copydbsaslstart",
    "copydb",
];

/// A step of a command's life: [`CommandStep::Started`], then exactly one of the two others with
/// the same numbers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommandEvent {
    /// The command's first key.
    pub command_name: String,
    /// The database it is run on.
    pub database: String,
    /// The number in the message's header; it is unique on its connection.
    pub request_id: i32,
    /// The same for all commands of one operation: retries, and whatever is sent about the cursor
    /// that it has opened.
    pub operation_id: u64,
    /// Who runs it.
    pub server: ServerAddress,
    /// The connection's number in its pool.
    pub connection: u64,
    /// The server's own number for the connection, as far as it has given one.
    pub server_connection: Option<i64>,
    /// Behind a load balancer: the service that runs it.
    pub service_id: Option<ObjectId>,
    /// Whether the command carries secrets, so that they are left out of [`step`](Self::step): its
    /// documents are empty, and a failure keeps no more than code and labels.
    pub is_redacted: bool,
    /// What happened.
    pub step: CommandStep,
}

/// What happened to a command.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CommandStep {
    /// It is about to be sent.
    Started {
        /// The command as it is sent, `$db` and all.
        command: RawDocumentBuf,
    },
    /// The server answered `ok: 1`.
    Succeeded {
        /// From sending to the end of the reply.
        duration: Duration,
        /// The reply; a slice of the buffer that it was received in.
        reply: Document,
    },
    /// The server answered `ok: 0`, or not at all.
    Failed {
        /// From sending to the failure.
        duration: Duration,
        /// Why.
        failure: CommandFailure,
    },
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandFailure {
    /// The server answered `ok: 0`.
    Server(Box<ServerError>),
    /// There was no reply, or none that can be read; the text of the error.
    Client(String),
    /// There was no reply within this limit.
    TimedOut(Duration),
    /// It was given up: the future that ran it was dropped, or the call was out of time that wanted
    /// the next batch of a cursor or a change stream.
    Cancelled,
}

impl std::fmt::Display for CommandFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Client(message) => f.write_str(message),
            Self::TimedOut(limit) => write!(f, "no reply within {limit:?}"),
            Self::Cancelled => f.write_str("given up before the reply"),
        }
    }
}

/// Where and as what a command is sent.
#[derive(Debug)]
pub(crate) struct CommandOrigin {
    pub(crate) request_id: i32,
    pub(crate) operation_id: u64,
    pub(crate) server: ServerAddress,
    pub(crate) connection: u64,
    pub(crate) server_connection: Option<i64>,
    pub(crate) service_id: Option<ObjectId>,
}

/// A command that was published as started and will be as succeeded or failed: as cancelled, when
/// this is dropped before.
#[derive(Debug)]
pub(crate) struct Observation {
    events: Events,
    /// The fields that all steps share; `None` once the last step is published.
    event: Option<CommandEvent>,
    started: Instant,
}

impl Observation {
    /// Publishes the start of a command, with the documents whose elements go beside it; `$db` is
    /// in the first of them.
    pub(crate) fn start(
        events: &Events,
        origin: CommandOrigin,
        command: &RawDocument,
        beside: [Option<&RawDocument>; 2],
    ) -> Self {
        let name = name_of(command);
        let is_redacted = is_sensitive(command);
        let shown = if is_redacted {
            RawDocumentBuf::new()
        } else {
            as_sent(command, beside, &[])
        };
        let database = beside[0].and_then(|envelope| envelope.get_str("$db").ok());
        let event = CommandEvent {
            command_name: name.to_owned(),
            database: database.unwrap_or_default().to_owned(),
            request_id: origin.request_id,
            operation_id: origin.operation_id,
            server: origin.server,
            connection: origin.connection,
            server_connection: origin.server_connection,
            service_id: origin.service_id,
            is_redacted,
            step: CommandStep::Started { command: shown },
        };
        events.command(&event);
        Self {
            events: events.clone(),
            event: Some(event),
            started: Instant::now(),
        }
    }

    /// Publishes how it ended.
    pub(crate) fn finish(mut self, result: &Result<CommandReply>) {
        let is_redacted = self.event.as_ref().is_some_and(|event| event.is_redacted);
        let failure = match result {
            Err(Error::Timeout { limit, .. }) => Some(CommandFailure::TimedOut(*limit)),
            Err(error) => Some(CommandFailure::Client(error.to_string())),
            Ok(reply) => match reply.server_error() {
                Ok(None) => None,
                Ok(Some(error)) if is_redacted => {
                    Some(CommandFailure::Server(Box::new(redacted(error))))
                }
                Ok(Some(error)) => Some(CommandFailure::Server(Box::new(error))),
                Err(error) => Some(CommandFailure::Client(error.to_string())),
            },
        };
        match (failure, result) {
            (None, Ok(reply)) => {
                let duration = self.started.elapsed();
                let reply = if is_redacted {
                    RawDocumentBuf::new().into()
                } else {
                    reply.document().clone()
                };
                self.publish(CommandStep::Succeeded { duration, reply });
            }
            (failure, _) => self.fail(failure.unwrap_or(CommandFailure::Cancelled)),
        }
    }

    fn fail(&mut self, failure: CommandFailure) {
        let duration = self.started.elapsed();
        self.publish(CommandStep::Failed { duration, failure });
    }

    fn publish(&mut self, step: CommandStep) {
        if let Some(event) = self.event.take() {
            let event = CommandEvent { step, ..event };
            self.events.command(&event);
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.fail(CommandFailure::Cancelled);
    }
}

/// The name of a command: its first key.
pub(crate) fn name_of(command: &RawDocument) -> &str {
    let first = command.iter().next().and_then(std::result::Result::ok);
    first.map_or("", |(name, _)| name.as_str())
}

/// A command and what goes beside it, without some of the fields.
pub(crate) fn as_sent(
    command: &RawDocument,
    beside: [Option<&RawDocument>; 2],
    without: &[&str],
) -> RawDocumentBuf {
    let mut sent = RawDocumentBuf::new();
    let all = std::iter::once(command).chain(beside.into_iter().flatten());
    for (key, value) in all.flatten().flatten() {
        if !without.contains(&key.as_str()) {
            sent.append(key, value);
        }
    }
    sent
}

/// Whether neither a command nor its reply may be shown.
pub(crate) fn is_sensitive(command: &RawDocument) -> bool {
    let name = name_of(command);
    let is_one_of = |names: &[&str]| names.iter().any(|one| one.eq_ignore_ascii_case(name));
    is_one_of(&SENSITIVE)
        || (is_one_of(&["hello", "ismaster"])
            && matches!(command.get("speculativeAuthenticate"), Ok(Some(_))))
}

/// What may be shown of a failure of a command that carries secrets.
fn redacted(error: ServerError) -> ServerError {
    ServerError {
        message: REDACTED.to_owned(),
        reply: RawDocumentBuf::new().into(),
        ..error
    }
}
