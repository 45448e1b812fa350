//! What a caller can ask for and not get.

use mongo_uri::{AuthMechanism, CredentialError};

/// A request that cannot be met, whatever the servers do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The command document has no element.
    #[error("the command is empty: its first key must be the command's name")]
    EmptyCommand,
    /// A change stream's task is gone: its runtime has ended, or its event listener panicked.
    #[error("the change stream's task is gone: its runtime has ended, or its listener panicked")]
    TaskGone,
    /// A feature that the connection string asks for and this version, as built, does not have.
    #[error("the connection string asks for {what}, which this version does not support")]
    Unsupported {
        /// The feature or URI option.
        what: &'static str,
    },
    /// A DNS seed list, where there is no time to look it up.
    #[error(
        "a mongodb+srv connection string names its servers in DNS: use Client::connect, or resolve \
         the options first"
    )]
    Unresolved,
    /// The credential lacks something.
    #[error("credential: {reason}")]
    Credential {
        /// What it lacks.
        reason: CredentialError,
    },
    /// An option that only another mechanism has a use for.
    #[error("{option} is for {mechanism}: add authMechanism={mechanism} to the connection string")]
    OtherMechanism {
        /// The method of [`ClientOptions`](crate::ClientOptions).
        option: &'static str,
        /// The mechanism.
        mechanism: AuthMechanism,
    },
    /// What a library says of itself cannot be told to servers.
    #[error("the driver information cannot be used: {reason}")]
    Metadata {
        /// Why.
        reason: &'static str,
    },
    /// A session cannot be used like this.
    #[error("session: {0}")]
    Session(#[from] SessionMisuse),
    /// A limit for an operation cannot be kept like this.
    #[error("timeoutMS: {reason}")]
    Timeout {
        /// Why.
        reason: &'static str,
    },
    /// Two ways to say the same thing, which do not agree.
    #[error("{what} cannot be given together; keep one")]
    Contradiction {
        /// Which two.
        what: &'static str,
    },
    /// This machine's store of certificate authorities has none that can be used.
    #[error(
        "TLS needs certificate authorities, and this machine's store has none ({reason}); give \
         the server's in tlsCAFile"
    )]
    NoAuthorities {
        /// What the look-up says.
        reason: String,
    },
    /// The document is no BSON.
    #[error("{what} cannot be written as BSON: {reason}")]
    NotBson {
        /// Which argument.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// How a session cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionMisuse {
    /// It was ended before.
    #[error("it has ended")]
    Ended,
    /// Another client has started it.
    #[error("it was started by another client")]
    OfAnotherClient,
    /// The server has none.
    #[error("sessions are not supported by the server that the command was to be run on")]
    Unsupported,
    /// The command asks for no answer, so that nobody would know when the session is free again.
    #[error("an unacknowledged write (w: 0) cannot be part of one")]
    Unacknowledged,
    /// The server is too old.
    #[error("Snapshot reads require MongoDB 5.0 or later")]
    SnapshotsTooOld,
    /// The moment of a snapshot was given, or asked for, and the session is no snapshot session.
    #[error("only a snapshot session has a snapshot time")]
    NoSnapshot,
    /// What was given as a cluster time has no `clusterTime`.
    #[error("a cluster time is a document with a timestamp clusterTime")]
    NoClusterTime,
}
