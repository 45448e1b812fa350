//! What an error means for a stream whose command it has ended.

use mongo_change_stream::FailureKind;

use crate::error::{Error, IoAction, Violation};

pub(super) fn failure_kind(error: &Error) -> FailureKind {
    match error {
        // A hello that is refused comes from a server that is starting or ending.
        Error::Io { .. } | Error::Proxy { .. } | Error::Hello { .. } => FailureKind::Network,
        // Somebody on the way may end a connection in good order.
        Error::Violation {
            violation: Violation::ClosedEarly,
            ..
        } => FailureKind::Network,
        // Only of what was asked can it be said that the answer is late.
        Error::Timeout { action, .. } if *action != IoAction::Receive => FailureKind::Network,
        Error::Timeout { .. } | Error::OperationTimeout { .. } => FailureKind::Timeout,
        Error::WaitQueueTimeout { .. } | Error::NoConnection { .. } => FailureKind::Selection,
        Error::PoolCleared { .. } => FailureKind::PoolCleared,
        Error::PoolClosed { .. } | Error::ServerGone { .. } => FailureKind::ServerGone,
        Error::Selection { .. } => FailureKind::Selection,
        Error::Malformed { .. } | Error::Violation { .. } | Error::Reply { .. } => {
            FailureKind::Protocol
        }
        // The same from a server that is ending while it authenticates.
        Error::Authentication(_) if error.says_try_elsewhere() => FailureKind::Network,
        Error::Authentication(_) => FailureKind::Authentication,
        Error::Tls { failure, .. } if failure.is_hang_up() => FailureKind::Network,
        Error::Tls { .. } => FailureKind::Authentication,
        Error::Shutdown => FailureKind::Shutdown,
        Error::RetryableWrite(source) => failure_kind(source),
        Error::Uri(_)
        | Error::Dns { .. }
        | Error::Misuse(_)
        | Error::TlsFile { .. }
        | Error::Encode(_)
        | Error::Checkpoint(_)
        | Error::Server { .. }
        | Error::ChangeStream { .. } => FailureKind::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mongo_uri::ServerAddress;

    use super::*;

    #[test]
    fn a_connection_that_ends_is_no_wrong_answer() {
        let server: ServerAddress = "db.example".parse().unwrap();
        for (violation, expected) in [
            (Violation::ClosedEarly, FailureKind::Network),
            (Violation::UnexpectedMoreToCome, FailureKind::Protocol),
        ] {
            let server = server.clone();
            let error = Error::Violation { server, violation };
            assert_eq!(failure_kind(&error), expected, "{error}");
        }
    }

    #[test]
    fn only_an_answer_that_is_late_is_a_missed_deadline() {
        let server: ServerAddress = "db.example".parse().unwrap();
        let limit = Duration::from_secs(1);
        let timeout = |action| Error::Timeout {
            server: server.clone(),
            action,
            limit,
        };
        let no_turn = Error::WaitQueueTimeout {
            server: server.clone(),
            limit,
            in_use: None,
        };
        for (error, expected) in [
            (timeout(IoAction::Receive), FailureKind::Timeout),
            (timeout(IoAction::Connect), FailureKind::Network),
            (timeout(IoAction::Handshake), FailureKind::Network),
            (no_turn, FailureKind::Selection),
        ] {
            assert_eq!(failure_kind(&error), expected, "{error}");
        }
    }
}
