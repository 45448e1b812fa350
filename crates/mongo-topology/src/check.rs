//! What a monitor is to do next with its socket, and the command it sends (Server Monitoring,
//! "Multi-threaded or asynchronous monitoring").

use std::time::Duration;

use bson::{RawDocumentBuf, cstr};

use crate::hello::HelloCommand;
use crate::topology_version::TopologyVersion;

/// Tells one check of a server from the next, so that the outcome of a cancelled one is known for
/// what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub(crate) u64);

/// One step of a monitor. It ends in exactly one of `HelloReceived` and `CheckFailed`, unless it
/// is cancelled or its server is closed.
///
/// Where `timeout` is `None`, the step may take for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// Open a new socket, send the handshake hello, read its reply.
    ///
    /// The handshake carries the client's metadata and never authentication. Only the time from
    /// the hello to its reply is the round trip.
    Connect {
        /// The command that opens the connection.
        hello: HelloCommand,
        /// For opening the socket, and again for the hello.
        timeout: Option<Duration>,
    },
    /// Send a hello on the open socket, read its reply.
    Hello {
        /// The command the server is known to understand.
        hello: HelloCommand,
        /// For the reply.
        timeout: Option<Duration>,
    },
    /// Send an awaitable hello with the exhaust flag on the open socket, read the first reply.
    Await {
        /// The command the server is known to understand.
        hello: HelloCommand,
        /// From the server's last reply.
        topology_version: TopologyVersion,
        /// How long the server may hold its reply back: the heartbeat frequency.
        max_await_time: Duration,
        /// For the reply, longer than `max_await_time`.
        timeout: Option<Duration>,
    },
    /// Read the next reply of the exhaust hello; send nothing.
    ReadNext {
        /// For the reply.
        timeout: Option<Duration>,
    },
}

impl Check {
    /// The hello document without `$db`, client metadata and server API fields; `None` when there
    /// is nothing to send.
    #[must_use]
    pub fn command(&self) -> Option<RawDocumentBuf> {
        match *self {
            Self::Connect { hello, .. } | Self::Hello { hello, .. } => Some(hello.document()),
            Self::Await {
                hello,
                topology_version,
                max_await_time,
                ..
            } => {
                let mut document = hello.document();
                let millis = i64::try_from(max_await_time.as_millis()).unwrap_or(i64::MAX);
                document.append(cstr!("topologyVersion"), topology_version.to_document());
                document.append(cstr!("maxAwaitTimeMS"), millis);
                Some(document)
            }
            Self::ReadNext { .. } => None,
        }
    }

    /// Whether the server holds the reply back until something changes. The request carries the
    /// `exhaustAllowed` flag then.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        matches!(self, Self::Await { .. } | Self::ReadNext { .. })
    }

    /// The limit of the step.
    #[must_use]
    pub const fn timeout(&self) -> Option<Duration> {
        match *self {
            Self::Connect { timeout, .. }
            | Self::Hello { timeout, .. }
            | Self::Await { timeout, .. }
            | Self::ReadNext { timeout } => timeout,
        }
    }
}

/// One measurement of the round trip time on a socket that serves nothing else.
///
/// The client opens the socket at the first measurement and after a failed one, and keeps it
/// otherwise. On a new socket the handshake's hello is the measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RttCheck {
    /// The command that opens a new socket.
    pub connect: HelloCommand,
    /// The command for a socket that is open.
    pub hello: HelloCommand,
    /// For opening the socket, and again for the hello.
    pub timeout: Option<Duration>,
}

impl HelloCommand {
    /// `{hello: 1, helloOk: true}`, or the same for legacy hello.
    #[must_use]
    pub fn document(self) -> RawDocumentBuf {
        let mut document = RawDocumentBuf::new();
        match self {
            Self::Legacy => document.append(cstr!("isMaster"), 1_i32),
            Self::Hello => document.append(cstr!("hello"), 1_i32),
        }
        document.append(cstr!("helloOk"), true);
        document
    }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::rawdoc;

    use super::*;

    const VERSION: TopologyVersion = TopologyVersion {
        process_id: ObjectId::from_bytes([1; 12]),
        counter: 4,
    };

    #[test]
    fn each_check_sends_its_own_command() {
        let timeout = None;
        let version = VERSION.to_document();
        let max_await_time = Duration::from_secs(10);
        let (legacy, hello) = (HelloCommand::Legacy, HelloCommand::Hello);
        for (check, command, awaited) in [
            (
                Check::Connect {
                    hello: legacy,
                    timeout,
                },
                Some(rawdoc! { "isMaster": 1, "helloOk": true }),
                false,
            ),
            (
                Check::Hello { hello, timeout },
                Some(rawdoc! { "hello": 1, "helloOk": true }),
                false,
            ),
            (
                Check::Await {
                    hello,
                    topology_version: VERSION,
                    max_await_time,
                    timeout,
                },
                Some(rawdoc! {
                    "hello": 1,
                    "helloOk": true,
                    "topologyVersion": version,
                    "maxAwaitTimeMS": 10_000_i64,
                }),
                true,
            ),
            (Check::ReadNext { timeout }, None, true),
        ] {
            assert_eq!(check.command(), command);
            assert_eq!(check.is_awaited(), awaited);
        }
    }
}
