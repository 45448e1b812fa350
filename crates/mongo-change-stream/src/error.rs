//! What can go wrong with a stream, by blame, and what is to be done about it
//! (change streams, "Resumable Error").

use std::{fmt, sync::Arc};

use mongo_wire::{ReplyError, ServerError};

use crate::codes;

/// Why a stream stopped, or was interrupted. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A reply is malformed or lacks what it must have; the error names the offset.
    #[error("{phase} was answered, but not readably: {error}")]
    Reply {
        /// The command it answers.
        phase: Phase,
        /// What is wrong, and where.
        error: ReplyError,
    },

    /// An event has no `_id` that could serve as a token, so the stream's place is unknown. A
    /// pipeline stage has removed or replaced it.
    #[error("cannot provide resume functionality when the resume token is missing")]
    MissingResumeToken,

    /// The server refused a command.
    #[error("{phase} failed: {error}")]
    Server {
        /// The command it refused.
        phase: Phase,
        /// Code, labels and message.
        error: Arc<ServerError>,
        /// Of the connection that ran the command, as its handshake had it.
        max_wire_version: i32,
    },

    /// A command brought no reply.
    #[error("{phase} failed: {failure}")]
    Failed {
        /// The command.
        phase: Phase,
        /// What happened instead of a reply.
        failure: Failure,
    },

    /// The fragments of an event, put together, are larger than the limit of
    /// [`Oversize::Join`](crate::Oversize::Join).
    #[error("an event has more than the {limit} bytes that one may have here")]
    Oversize {
        /// The limit.
        limit: usize,
    },

    /// A fragment of an event came without the fragments before it. The stream was started behind
    /// a fragment, or the server cuts events otherwise than it says.
    #[error("expected fragment {expected} of an event, found fragment {found} of {of}")]
    Fragment {
        /// The number that should have come.
        expected: u32,
        /// The number that came.
        found: u32,
        /// How many fragments the event has.
        of: u32,
    },

    /// An event does not have the shape of the type asked for.
    #[error("event does not fit its type: {0}")]
    Event(#[source] bson::error::Error),

    /// The caller asked for something that makes no sense.
    #[error("{0}")]
    Misuse(String),
}

/// The command an error belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The first `aggregate`.
    Open,
    /// The `aggregate` of a resume.
    Resume,
    /// A `getMore`.
    GetMore,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "aggregate",
            Self::Resume => "aggregate of a resume",
            Self::GetMore => "getMore",
        })
    }
}

/// Why a command brought no reply, told by whoever runs the commands.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What kind of failure; the machine decides by it.
    pub kind: FailureKind,
    /// The runner's own error, handed back unchanged inside [`StreamError::Failed`].
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure with its cause.
    #[must_use]
    pub fn new(
        kind: FailureKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            source: Some(Arc::from(source.into())),
        }
    }
}

impl From<FailureKind> for Failure {
    fn from(kind: FailureKind) -> Self {
        Self { kind, source: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

/// The kinds of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The connection broke, or none could be made.
    Network,
    /// The command missed its deadline.
    Timeout,
    /// The pool of the server was cleared.
    PoolCleared,
    /// The topology no longer has the server instance.
    ServerGone,
    /// No suitable server was found in time.
    Selection,
    /// The peer broke the wire protocol and its connection was closed.
    Protocol,
    /// The connection could not be authenticated.
    Authentication,
    /// The command was refused before it was sent: too large, not allowed.
    Rejected,
    /// The runner itself is shutting down.
    Shutdown,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network error",
            Self::Timeout => "deadline missed",
            Self::PoolCleared => "connection pool cleared",
            Self::ServerGone => "server left the topology",
            Self::Selection => "no suitable server",
            Self::Protocol => "protocol violation",
            Self::Authentication => "authentication failed",
            Self::Rejected => "command refused before it was sent",
            Self::Shutdown => "shutting down",
        })
    }
}

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Of a `getMore`: the stream resumes.
    Resumable,
    /// Of an `aggregate`: the same command may succeed a moment later.
    RetryLater,
    /// The same command will fail again.
    Permanent,
}

impl StreamError {
    /// What is to be done about it. For a `getMore` this is the specification's definition of a
    /// resumable error; an `aggregate` is never resumable, but may be worth repeating.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Server {
                phase: Phase::GetMore,
                error,
                max_wire_version,
            } => class_if(
                is_resumable(error, *max_wire_version),
                ErrorClass::Resumable,
            ),
            Self::Server { error, .. } => class_if(is_transient(error), ErrorClass::RetryLater),
            Self::Failed {
                phase: Phase::GetMore,
                failure,
            } => class_if(failure.kind.is_resumable(), ErrorClass::Resumable),
            Self::Failed { failure, .. } => {
                class_if(failure.kind.is_transient(), ErrorClass::RetryLater)
            }
            _ => ErrorClass::Permanent,
        }
    }

    /// The server's error code, if a server refused a command and gave one.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Server { error, .. } => error.code,
            _ => None,
        }
    }

    /// The server's error, if a server refused a command.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether the oplog no longer reaches back to where the stream stands: events have been missed
    /// for good, and starting again with the same token will fail again.
    ///
    /// Of an `aggregate` that is also what the code 280 (`ChangeStreamFatalError`) says; of a
    /// `getMore` that code means an event whose `_id` a stage of the pipeline has changed.
    #[must_use]
    pub fn is_history_lost(&self) -> bool {
        let Self::Server { phase, error, .. } = self else {
            return false;
        };
        let starts = *phase != Phase::GetMore;
        error.code.is_some_and(|code| {
            codes::is_history_lost(code) || (starts && code == codes::FATAL_ERROR)
        })
    }

    /// Whether an event is larger than the server can send in one document; see
    /// [`Oversize`](crate::Oversize).
    #[must_use]
    pub fn is_event_too_large(&self) -> bool {
        matches!(self, Self::Oversize { .. }) || self.code() == Some(codes::EVENT_TOO_LARGE)
    }
}

impl FailureKind {
    /// Everything that is not a server's answer is resumable, unless this side gave up itself.
    fn is_resumable(self) -> bool {
        !matches!(self, Self::Rejected | Self::Shutdown)
    }

    fn is_transient(self) -> bool {
        use FailureKind::{Network, PoolCleared, Selection, ServerGone, Timeout};
        matches!(
            self,
            Network | Timeout | PoolCleared | ServerGone | Selection
        )
    }
}

/// Rules (b), (c) and (d) of "Resumable Error". The wire version is the one of the connection that
/// ran the command, never what the topology says afterwards.
fn is_resumable(error: &ServerError, max_wire_version: i32) -> bool {
    if error.code == Some(codes::CURSOR_NOT_FOUND) {
        return true;
    }
    if max_wire_version >= codes::WIRE_VERSION_4_4 {
        error.has_label(codes::RESUMABLE_LABEL)
    } else {
        error.code.is_some_and(codes::is_resumable_before_4_4)
    }
}

fn is_transient(error: &ServerError) -> bool {
    error.has_label(codes::RESUMABLE_LABEL)
        || error.has_label(codes::RETRYABLE_LABEL)
        || error.code.is_some_and(codes::is_transient)
}

fn class_if(condition: bool, class: ErrorClass) -> ErrorClass {
    if condition {
        class
    } else {
        ErrorClass::Permanent
    }
}
