//! What an error says about what is to be done.

use mongo_change_stream::ErrorClass;
use mongo_topology::SYSTEM_OVERLOADED_ERROR;
use mongo_uri::ServerAddress;
use mongo_wire::ServerError;

use super::{Error, IoAction, RETRYABLE_ERROR, RETRYABLE_WRITE_ERROR, Violation, codes};
use crate::auth::AuthFailure;

impl Error {
    /// Whether the operation's own limit (`timeoutMS`) has passed.
    #[must_use]
    pub const fn is_operation_timeout(&self) -> bool {
        matches!(self, Self::OperationTimeout { .. })
    }

    /// True when some time limit passed, whose ever it is.
    pub(crate) fn is_about_time(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Selection { .. }
            | Self::NoConnection { .. }
            | Self::WaitQueueTimeout { .. } => true,
            Self::RetryableWrite(source) => source.is_about_time(),
            _ => false,
        }
    }

    /// True when there was no server, or no connection, to send anything to.
    pub(crate) fn is_before_sending(&self) -> bool {
        matches!(
            self,
            Self::Selection { .. } | Self::NoConnection { .. } | Self::WaitQueueTimeout { .. }
        )
    }

    /// The server's error code, if a server answered with one.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.server_error()?.code
    }

    /// The server that this is about, where it is about one.
    #[must_use]
    pub fn server(&self) -> Option<&ServerAddress> {
        match self {
            Self::Server { server, .. }
            | Self::Io { server, .. }
            | Self::Tls { server, .. }
            | Self::Proxy { server, .. }
            | Self::Timeout { server, .. }
            | Self::Malformed { server, .. }
            | Self::Violation { server, .. }
            | Self::Reply { server, .. }
            | Self::Hello { server, .. }
            | Self::PoolCleared { server, .. }
            | Self::PoolClosed { server }
            | Self::ServerGone { server }
            | Self::WaitQueueTimeout { server, .. }
            | Self::NoConnection { server, .. } => Some(server),
            Self::Authentication(error) => Some(&error.server),
            Self::ChangeStream { server, .. } => server.as_ref(),
            Self::OperationTimeout { source, .. } => source.as_deref()?.server(),
            Self::RetryableWrite(source) => source.server(),
            Self::Uri(_)
            | Self::Dns { .. }
            | Self::Misuse(_)
            | Self::TlsFile { .. }
            | Self::Encode(_)
            | Self::Selection { .. }
            | Self::Checkpoint(_)
            | Self::Shutdown => None,
        }
    }

    /// The server's answer `ok: 0`, to a command or to an authentication: its code, labels and
    /// message, and the reply itself.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server { error, .. } => Some(error),
            Self::OperationTimeout { source, .. } => source.as_deref()?.server_error(),
            Self::RetryableWrite(source) => source.server_error(),
            Self::Authentication(error) => match &error.failure {
                AuthFailure::Refused(error) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a connection was lost, or refused, after its hello and before its first command.
    pub(crate) fn is_about_authentication(&self) -> bool {
        match self {
            Self::Authentication(_) => true,
            Self::Io { action, .. } | Self::Timeout { action, .. } => {
                *action == IoAction::Authenticate
            }
            _ => false,
        }
    }

    /// Of an error before anything was sent: true when another server, or the same one a moment
    /// later, may do. A server that is shutting down or stepping down says so to a handshake too.
    pub(crate) fn says_try_elsewhere(&self) -> bool {
        let refused = matches!(self, Self::Authentication(_)).then(|| self.code());
        self.is_network() || refused.flatten().is_some_and(codes::is_retryable)
    }

    /// Whether an error carries a label: one that the server has put on it; of a network error or a
    /// time limit while a connection was being opened, `SystemOverloadedError` and
    /// `RetryableError` (Connection Monitoring and Pooling, "Backpressure-enabled"); of an
    /// [`Error::RetryableWrite`], `RetryableWriteError`.
    #[must_use]
    pub fn has_label(&self, label: &str) -> bool {
        if let Self::RetryableWrite(source) = self {
            return label == RETRYABLE_WRITE_ERROR || source.has_label(label);
        }
        match self.server_error() {
            Some(error) => error.has_label(label),
            None => {
                [SYSTEM_OVERLOADED_ERROR, RETRYABLE_ERROR].contains(&label)
                    && self.may_be_overload()
            }
        }
    }

    /// True when the network failed where a server that has too much to do makes it fail. A name
    /// that cannot be looked up is no such sign.
    fn may_be_overload(&self) -> bool {
        let (Self::Io { action, .. } | Self::Timeout { action, .. }) = self else {
            return false;
        };
        matches!(
            action,
            IoAction::Connect | IoAction::Tls | IoAction::Handshake
        )
    }

    /// What is to be done about it: of a stream that has ended, whether another one from the same
    /// token may do better; of a command, whether the same one may do so a moment later.
    ///
    /// ```no_run
    /// # async fn f(orders: mongo_client::Collection) -> mongo_client::Result<()> {
    /// use mongo_client::change_stream::ErrorClass;
    ///
    /// let stream = loop {
    ///     match orders.watch().await {
    ///         Ok(stream) => break stream,
    ///         Err(error) if error.class() == ErrorClass::Permanent => return Err(error),
    ///         Err(error) => eprintln!("once more: {error}"), // after a pause
    ///     }
    /// };
    /// # let _ = stream;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        let passes = match self {
            Self::ChangeStream { error, .. } => return error.class(),
            Self::RetryableWrite(source) => return source.class(),
            Self::Selection { .. } | Self::WaitQueueTimeout { .. } | Self::NoConnection { .. } => {
                true
            }
            Self::Server { error, .. } => {
                error.has_label(RETRYABLE_ERROR) || error.code.is_some_and(codes::is_retryable)
            }
            _ => self.says_try_elsewhere(),
        };
        if passes {
            ErrorClass::RetryLater
        } else {
            ErrorClass::Permanent
        }
    }

    /// True when the error says nothing about the operation itself: the network, a time limit, a
    /// cleared pool, a server that left. The operation may or may not have reached the server.
    #[must_use]
    pub fn is_network(&self) -> bool {
        match self {
            Self::Io { .. }
            | Self::Proxy { .. }
            | Self::Timeout { .. }
            | Self::PoolCleared { .. }
            | Self::PoolClosed { .. }
            | Self::ServerGone { .. } => true,
            Self::Violation { violation, .. } => *violation == Violation::ClosedEarly,
            Self::Tls { failure, .. } => failure.is_hang_up(),
            Self::RetryableWrite(source) => source.is_network(),
            _ => false,
        }
    }
}
