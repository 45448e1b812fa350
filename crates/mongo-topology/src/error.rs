//! What can go wrong with a server, as the topology is told of it and as it keeps it.

use bson::{RawBsonRef, RawDocument};

use crate::hello::{HelloError, i32_value, truth};
use crate::topology_version::TopologyVersion;

/// Set by a pool on errors of a connection attempt that may come from an overloaded server: such an
/// error says nothing about the server's state (SDAM, "Error handling pseudocode").
pub const SYSTEM_OVERLOADED_ERROR: &str = "SystemOverloadedError";

/// Why a monitor's check failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The socket could not be opened, or broke.
    #[error("network error: {message}")]
    Network {
        /// What the system said.
        message: String,
    },
    /// The check's timeout passed.
    #[error("timed out: {message}")]
    Timeout {
        /// What was being waited for.
        message: String,
    },
    /// The client itself gave up, as when a server's proof of identity is wrong.
    #[error("{message}")]
    Client {
        /// What is wrong.
        message: String,
    },
    /// The server refused the command, or its answer cannot be read.
    #[error(transparent)]
    Hello(#[from] HelloError),
}

impl CheckError {
    /// A broken or refused connection.
    pub fn network(message: impl Into<String>) -> Self {
        Self::Network {
            message: message.into(),
        }
    }

    /// A check that took too long.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::Timeout {
            message: message.into(),
        }
    }

    /// A check that the client itself gave up.
    pub fn client(message: impl Into<String>) -> Self {
        Self::Client {
            message: message.into(),
        }
    }

    /// Whether the network failed, by a timeout or otherwise; the server did not answer then.
    #[must_use]
    pub const fn is_network(&self) -> bool {
        matches!(self, Self::Network { .. } | Self::Timeout { .. })
    }

    /// Whether a timeout passed.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }
}

/// How far an application's connection had come when an error struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPhase {
    /// Opening the socket, TLS, or the first hello.
    Connecting,
    /// Authenticating, after the first hello.
    Authenticating,
    /// Running a command on a connection that is ready.
    Established,
}

/// An error of an application's connection, in the terms that discovery asks about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", kind.suffix())]
pub struct ApplicationError {
    /// What happened.
    pub kind: ApplicationErrorKind,
    /// For people.
    pub message: String,
    /// Error labels, from the server or from the client.
    pub labels: Vec<String>,
}

/// The kinds of [`ApplicationError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplicationErrorKind {
    /// The socket broke; anything but a timeout.
    Network,
    /// A timeout on the socket.
    Timeout,
    /// The server answered with an error or a write concern error.
    Command {
        /// The code, when the server gave one.
        code: Option<i32>,
        /// The reply's `topologyVersion`.
        topology_version: Option<TopologyVersion>,
    },
    /// The client itself gave up, as when a server's proof of identity is wrong.
    Client,
}

impl ApplicationErrorKind {
    fn suffix(&self) -> String {
        match self {
            Self::Command {
                code: Some(code), ..
            } => format!(" (code {code})"),
            _ => String::new(),
        }
    }
}

impl ApplicationError {
    /// A broken connection.
    pub fn network(message: impl Into<String>) -> Self {
        Self::new(ApplicationErrorKind::Network, message)
    }

    /// A timeout on a socket.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(ApplicationErrorKind::Timeout, message)
    }

    /// An error that the client itself found.
    pub fn client(message: impl Into<String>) -> Self {
        Self::new(ApplicationErrorKind::Client, message)
    }

    fn new(kind: ApplicationErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            labels: Vec::new(),
        }
    }

    /// The error in a command's reply: of the command itself, or else of its write concern.
    ///
    /// `None` when the reply reports neither. Errors inside `writeErrors` are about documents and
    /// are never looked at.
    #[must_use]
    pub fn from_reply(reply: &RawDocument) -> Option<Self> {
        let failed = !field(reply, "ok").is_some_and(truth);
        let source = match field(reply, "writeConcernError").and_then(RawBsonRef::as_document) {
            _ if failed => reply,
            Some(write_concern) => write_concern,
            None => return None,
        };
        let topology_version = field(reply, "topologyVersion")
            .and_then(RawBsonRef::as_document)
            .and_then(TopologyVersion::from_document);
        let code = field(source, "code").and_then(i32_value);
        let message = field(source, "errmsg")
            .and_then(RawBsonRef::as_str)
            .unwrap_or("no errmsg");
        let kind = ApplicationErrorKind::Command {
            code,
            topology_version,
        };
        let mut error = Self::new(kind, message);
        let labels = field(reply, "errorLabels").and_then(RawBsonRef::as_array);
        for label in labels.into_iter().flatten().flatten() {
            error.labels.extend(label.as_str().map(str::to_owned));
        }
        Some(error)
    }

    /// The same error with one more label.
    #[must_use]
    pub fn with_label(mut self, label: &str) -> Self {
        if !self.has_label(label) {
            self.labels.push(label.to_owned());
        }
        self
    }

    /// Whether the error carries this label.
    #[must_use]
    pub fn has_label(&self, label: &str) -> bool {
        self.labels.iter().any(|own| own == label)
    }

    pub(crate) fn topology_version(&self) -> Option<TopologyVersion> {
        match self.kind {
            ApplicationErrorKind::Command {
                topology_version, ..
            } => topology_version,
            _ => None,
        }
    }

    /// What a server's error says about its state; `None` when it says nothing.
    #[must_use]
    pub fn state_change(&self) -> Option<StateChange> {
        match self.kind {
            ApplicationErrorKind::Command { code, .. } => StateChange::of(code, &self.message),
            _ => None,
        }
    }
}

/// A field that is there and can be read.
fn field<'a>(document: &'a RawDocument, key: &str) -> Option<RawBsonRef<'a>> {
    document.get(key).ok().flatten()
}

/// What a server's error says about the server's state (SDAM, "not writable primary" and "node is
/// recovering").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// It is not the primary any more.
    NotWritablePrimary,
    /// It cannot be used for the moment.
    NodeIsRecovering,
    /// It is about to end: its connections are of no more use.
    NodeIsShuttingDown,
}

impl StateChange {
    /// By the code alone if there is one, by the message otherwise.
    fn of(code: Option<i32>, message: &str) -> Option<Self> {
        match code {
            Some(11600 | 91) => Some(Self::NodeIsShuttingDown),
            Some(11602 | 13436 | 189) => Some(Self::NodeIsRecovering),
            Some(10107 | 13435 | 10058) => Some(Self::NotWritablePrimary),
            // A code of 0 is what a server without a code for its error reports.
            Some(code) if code != 0 => None,
            _ if message.contains("node is recovering")
                || message.contains("not master or secondary") =>
            {
                Some(Self::NodeIsRecovering)
            }
            _ if message.contains("not master") => Some(Self::NotWritablePrimary),
            _ => None,
        }
    }
}

/// Why a server is `Unknown`, kept in its description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LastError {
    /// Its monitor could not reach it, or was refused.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// An application's connection to it failed.
    #[error(transparent)]
    Application(#[from] ApplicationError),
    /// It believes to be primary by an election that is over.
    #[error(
        "primary marked stale due to electionId/setVersion mismatch, {stale} is stale compared to \
         {newest}"
    )]
    StaleElection {
        /// Its own election and set version.
        stale: String,
        /// The newest ones seen.
        newest: String,
    },
    /// Another member has become primary.
    #[error("primary marked stale due to discovery of newer primary")]
    NewerPrimary,
    /// A direct connection reached a server of another set than the one asked for.
    #[error("server is {}, but replica set {expected:?} was asked for", set_or_none(found.as_deref()))]
    WrongSetName {
        /// The set asked for.
        expected: String,
        /// The set the server is in.
        found: Option<String>,
    },
}

fn set_or_none(name: Option<&str>) -> String {
    name.map_or_else(
        || "in no replica set".to_owned(),
        |name| format!("in replica set {name:?}"),
    )
}

#[cfg(test)]
mod tests;
