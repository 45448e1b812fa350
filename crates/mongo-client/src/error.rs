//! What can go wrong, sorted by who is to blame.

pub(crate) mod codes;
mod misuse;
mod questions;
mod transport;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mongo_topology::{HelloError, SelectionError};
use mongo_uri::{ServerAddress, UriError};
use mongo_wire::{DecodeError, EncodeError, ReplyError, ServerError};

use tokio::time::Instant;

use crate::auth::AuthenticationError;
use crate::checkpoint::CheckpointFailure;
use crate::deadline::Deadline;
use crate::pool::ConnectionsInUse;

pub use self::misuse::{Misuse, SessionMisuse};
pub use self::transport::{DnsFailure, ProxyFailure, ProxyRefusal, TlsFailure, TlsFileProblem};

/// Set, with [`SYSTEM_OVERLOADED_ERROR`], on errors after which the same may be tried again later.
pub(crate) const RETRYABLE_ERROR: &str = "RetryableError";
/// Set on errors after which a write that servers know again may be repeated.
pub(crate) const RETRYABLE_WRITE_ERROR: &str = "RetryableWriteError";
/// Set by servers on errors before which nothing was written.
pub(crate) const NO_WRITES_PERFORMED: &str = "NoWritesPerformed";

/// Result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the client. Every variant that concerns one server names its address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection string cannot be used.
    #[error(transparent)]
    Uri(#[from] UriError),

    /// The DNS seed list cannot be looked up; nothing was sent.
    #[error("DNS: {name}: {failure}")]
    Dns {
        /// The name that was looked up.
        name: String,
        /// Why.
        failure: DnsFailure,
    },

    /// The caller asked for something that cannot be done; nothing was sent.
    #[error("{0}")]
    Misuse(Misuse),

    /// The server answered with `ok: 0`.
    #[error("{server}: {error}")]
    Server {
        /// Who answered.
        server: ServerAddress,
        /// Code, name, labels and message of the reply, and the reply itself.
        error: Box<ServerError>,
        /// `maxWireVersion` of the connection that the reply came on.
        max_wire_version: i32,
    },

    /// The host name could not be resolved, or the connection could not be opened or broke.
    #[error("{server}: {action}: {source}")]
    Io {
        /// Whom the connection is to.
        server: ServerAddress,
        /// What was being done.
        action: IoAction,
        /// The operating system's error.
        source: io::Error,
    },

    /// Client and server do not trust each other, or cannot agree on TLS. Not a failure of the
    /// network ([`TlsFailure::is_hang_up`] aside): another try meets the same.
    #[error("{server}: TLS: {failure}")]
    Tls {
        /// Whom the connection is to.
        server: ServerAddress,
        /// Why, and what to do about it.
        failure: Box<TlsFailure>,
    },

    /// A file that a TLS option names cannot be used; nothing was sent.
    #[error("{option}: {}: {problem}", file.display())]
    TlsFile {
        /// The URI option.
        option: &'static str,
        /// The file that it names.
        file: PathBuf,
        /// Why, and what to do about it.
        problem: TlsFileProblem,
    },

    /// The SOCKS5 proxy cannot be used, or does not reach the server.
    #[error("{server}: by way of {proxy}: {failure}")]
    Proxy {
        /// Whom the connection is to.
        server: ServerAddress,
        /// The proxy, from `proxyHost` and `proxyPort`.
        proxy: ServerAddress,
        /// Why.
        failure: Box<ProxyFailure>,
    },

    /// A time limit passed. The connection that was waited on is closed.
    #[error("{server}: {action} took longer than {limit:?}")]
    Timeout {
        /// Whom was waited for.
        server: ServerAddress,
        /// What was being done.
        action: IoAction,
        /// The limit that passed.
        limit: Duration,
    },

    /// The peer sent bytes that are no message of the protocol.
    #[error("{server}: malformed message: {source}")]
    Malformed {
        /// Who sent it.
        server: ServerAddress,
        /// Where and what.
        source: DecodeError,
    },

    /// A well-formed message that breaks the protocol.
    #[error("{server}: protocol violation: {violation}")]
    Violation {
        /// Who sent it.
        server: ServerAddress,
        /// Which rule.
        violation: Violation,
    },

    /// A reply whose fields cannot be read.
    #[error("{server}: unreadable reply: {source}")]
    Reply {
        /// Who sent it.
        server: ServerAddress,
        /// Where and what.
        source: ReplyError,
    },

    /// The reply to a hello describes no server.
    #[error("{server}: {source}")]
    Hello {
        /// Who sent it.
        server: ServerAddress,
        /// What is wrong with it.
        source: HelloError,
    },

    /// The server did not take the client's credential, or could not prove that it knows it. It is
    /// not tried again by itself: each operation that needs a new connection tries once.
    #[error(transparent)]
    Authentication(Box<AuthenticationError>),

    /// The command cannot be put into a message.
    #[error("the command cannot be sent: {0}")]
    Encode(#[from] EncodeError),

    /// No suitable server was found in time.
    #[error("no suitable server within {limit:?}: {reason}")]
    Selection {
        /// `serverSelectionTimeoutMS`.
        limit: Duration,
        /// Why, server by server.
        reason: Box<SelectionError>,
        /// What the monitors met that cannot reach their server, one error a server.
        causes: Vec<Arc<Self>>,
    },

    /// The server's pool was cleared because the server is not known to work any more. The
    /// operation was not sent and can be tried again.
    #[error("{server}: the connection pool was cleared because {}", cleared_because(.cause.as_deref()))]
    PoolCleared {
        /// Whose pool.
        server: ServerAddress,
        /// What the server failed with, as far as is known.
        cause: Option<Arc<str>>,
    },

    /// The server left the topology before a connection to it could be used. The operation was not
    /// sent and can be tried again, on another server.
    #[error("{server}: attempted to check out a connection from closed connection pool")]
    PoolClosed {
        /// Whose pool.
        server: ServerAddress,
    },

    /// The server left the topology, or was removed and added again, while a connection to it was
    /// in use.
    #[error("{server}: the server is no longer part of the topology as it was")]
    ServerGone {
        /// Which server.
        server: ServerAddress,
    },

    /// No connection became free within `waitQueueTimeoutMS`.
    #[error(
        "{server}: timed out while checking out a connection from connection pool: none became \
         free within {limit:?} (waitQueueTimeoutMS){}",
        used_for(in_use.as_ref())
    )]
    WaitQueueTimeout {
        /// Whose pool.
        server: ServerAddress,
        /// The limit that passed.
        limit: Duration,
        /// Behind a load balancer: what the connections were in use for.
        in_use: Option<ConnectionsInUse>,
    },

    /// A server was found, but no connection to it became free, or could be opened, in what was
    /// left of `serverSelectionTimeoutMS`.
    #[error(
        "{server}: no connection within {limit:?} (serverSelectionTimeoutMS): all of maxPoolSize \
         may be in use, each change stream keeps one"
    )]
    NoConnection {
        /// Whose pool.
        server: ServerAddress,
        /// The limit that passed.
        limit: Duration,
    },

    /// The operation's own limit passed, `timeoutMS` or what was given instead of it. What it was
    /// doing then is the source, if it was anything that fails.
    #[error("the operation took longer than {limit:?} (timeoutMS){}", during(.source.as_deref()))]
    OperationTimeout {
        /// The limit that passed.
        limit: Duration,
        /// What failed because of it.
        source: Option<Box<Self>>,
    },

    /// A [write that may be repeated](crate::RunCommand::as_write) met this last, which is no
    /// answer of a server: whether the write was done is not known. It has the label
    /// `RetryableWriteError`; the same command, run anew, is another write.
    #[error(transparent)]
    RetryableWrite(Box<Self>),

    /// The client was shut down.
    #[error("the client is shut down")]
    Shutdown,

    /// A checkpoint cannot be read or written, or is of another stream.
    #[error(transparent)]
    Checkpoint(#[from] Box<CheckpointFailure>),

    /// The change stream ended with an error, or an event is not what it was to be read as.
    #[error("{}{error}", prefix(server.as_ref()))]
    ChangeStream {
        /// Whose answer it is about, where it is about one.
        server: Option<ServerAddress>,
        /// What happened.
        error: mongo_change_stream::StreamError,
    },
}

/// What an [`Error::Io`] or [`Error::Timeout`] interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoAction {
    /// Looking the host name up.
    Resolve,
    /// Opening the connection.
    Connect,
    /// Connecting to the SOCKS5 proxy, and by way of it to the server.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// The `hello` exchange that opens a connection.
    Handshake,
    /// Authenticating, after the hello.
    Authenticate,
    /// Sending a command.
    Send,
    /// Waiting for, or reading, a reply.
    Receive,
}

impl std::fmt::Display for IoAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking up the host name",
            Self::Connect => "connecting",
            Self::Proxy => "connecting by way of the proxy",
            Self::Tls => "the TLS handshake",
            Self::Handshake => "the handshake",
            Self::Authenticate => "authentication",
            Self::Send => "sending a command",
            Self::Receive => "waiting for a reply",
        })
    }
}

/// A rule of the protocol that a peer broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The reply answers another request.
    #[error("the reply answers request {found}, but request {expected} was sent")]
    ResponseTo {
        /// The request that was sent.
        expected: i32,
        /// What the reply's header says.
        found: i32,
    },
    /// The reply is no OP_MSG.
    #[error("the reply has opcode {0}, expected OP_MSG (2013)")]
    OpCode(i32),
    /// `moreToCome` on the reply of a request that did not allow it.
    #[error("the reply announces more replies, which the request did not allow")]
    UnexpectedMoreToCome,
    /// Behind a load balancer, or where one should be, the hello names no service (Load Balancers,
    /// "Connection Establishment").
    #[error(
        "Driver attempted to initialize in load balancing mode, but the server does not support \
         this mode."
    )]
    NoServiceId,
    /// The hello announces a limit within which nothing can be said.
    #[error("the server's {field} is {announced}, too little for any command")]
    SizeLimit {
        /// The field of the hello.
        field: &'static str,
        /// Its value, in bytes.
        announced: u32,
    },
    /// The server closed the connection in the middle of a message or before a reply.
    #[error("the connection was closed before the reply was complete")]
    ClosedEarly,
}

fn prefix(server: Option<&ServerAddress>) -> String {
    server
        .map(|server| format!("{server}: "))
        .unwrap_or_default()
}

impl From<mongo_change_stream::StreamError> for Error {
    fn from(error: mongo_change_stream::StreamError) -> Self {
        Self::ChangeStream {
            server: None,
            error,
        }
    }
}

fn used_for(in_use: Option<&ConnectionsInUse>) -> String {
    in_use.map_or_else(String::new, |in_use| format!(". {in_use}"))
}

fn during(source: Option<&Error>) -> String {
    source.map_or_else(String::new, |source| format!(": {source}"))
}

fn cleared_because(cause: Option<&str>) -> String {
    match cause {
        Some(cause) => format!("another operation or a check failed with: {cause}"),
        None => "the server is not known to work".to_owned(),
    }
}

impl Error {
    /// An error of the stream to a server, which may hide a failure of TLS.
    pub(crate) fn of_stream(server: &ServerAddress, action: IoAction, source: io::Error) -> Self {
        let server = server.clone();
        match source.downcast::<TlsFailure>() {
            Ok(failure) => Self::Tls {
                server,
                failure: Box::new(failure),
            },
            Err(source) => Self::Io {
                server,
                action,
                source,
            },
        }
    }

    /// The error where its server is known anyway, as in the description of that server.
    pub(crate) fn without_server(&self) -> String {
        match self {
            Self::Server { error, .. } => error.to_string(),
            Self::Io { action, source, .. } => format!("{action}: {source}"),
            Self::Tls { failure, .. } => format!("TLS: {failure}"),
            Self::Proxy { proxy, failure, .. } => format!("by way of {proxy}: {failure}"),
            Self::Timeout { action, limit, .. } => format!("{action} took longer than {limit:?}"),
            Self::Malformed { source, .. } => source.to_string(),
            Self::Violation { violation, .. } => violation.to_string(),
            Self::Hello { source, .. } => source.to_string(),
            Self::Authentication(error) => error.without_server(),
            Self::RetryableWrite(source) => source.without_server(),
            other => other.to_string(),
        }
    }

    /// The end of an operation that has too little time left to be tried.
    pub(crate) fn late(limit: Duration) -> Self {
        let source = None;
        Self::OperationTimeout { limit, source }
    }

    /// The end of an operation whose limit passed while this happened.
    pub(crate) fn timed_out(self, limit: Duration) -> Self {
        match self {
            Self::OperationTimeout { .. } => self,
            other => Self::OperationTimeout {
                limit,
                source: Some(Box::new(other)),
            },
        }
    }

    /// The same error as one of the operation's own limit, where there is one and it may be due to
    /// that (Client Side Operations Timeout, "Errors").
    pub(crate) fn within_deadline(self, deadline: Deadline) -> Self {
        let is_late = self.is_about_time()
            || self.code() == Some(codes::MAX_TIME_MS_EXPIRED)
            || deadline.is_over(Instant::now());
        let is_misuse = matches!(self, Self::Misuse(_) | Self::Shutdown | Self::Encode(_));
        if deadline.is_set() && is_late && !is_misuse {
            self.timed_out(deadline.limit())
        } else {
            self
        }
    }
}
