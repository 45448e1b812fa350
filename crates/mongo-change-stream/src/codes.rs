//! Server error codes this crate branches on, in one place.
//!
//! Sources: the change streams specification ("Resumable Error"), the retryable reads specification
//! ("Retryable Error") and the server's `error_codes.yml`.

/// First wire version (MongoDB 4.4) whose servers label resumable errors themselves and accept a
/// `comment` on `getMore`.
pub const WIRE_VERSION_4_4: i32 = 9;

/// Label by which servers since 4.4 mark an error of a change stream as resumable.
pub const RESUMABLE_LABEL: &str = "ResumableChangeStreamError";

/// Label by which a server marks a command as safe to send again.
pub const RETRYABLE_LABEL: &str = "RetryableError";

/// `CursorNotFound`: resumable at every version, since the server cannot tell whose cursor it was.
pub const CURSOR_NOT_FOUND: i32 = 43;

/// `CursorKilled`: the cursor is gone, so there is nothing left to kill.
pub const CURSOR_KILLED: i32 = 237;

/// `ChangeStreamFatalError`: of an `aggregate`, that the oplog does not have, or no longer has, the
/// place it starts from; of a `getMore`, that the pipeline has broken an event's `_id`.
pub const FATAL_ERROR: i32 = 280;

/// `BSONObjectTooLarge`: an event is larger than a document may be.
pub const EVENT_TOO_LARGE: i32 = 10334;

/// `Location40573`: change streams need a replica set or a sharded cluster.
pub const NOT_A_REPLICA_SET: i32 = 40573;

/// Resumable errors of a `getMore` below wire version 9 (change streams, "Resumable Error").
const RESUMABLE_BEFORE_4_4: [i32; 17] = [
    6,     // HostUnreachable
    7,     // HostNotFound
    63,    // StaleShardVersion
    89,    // NetworkTimeout
    91,    // ShutdownInProgress
    133,   // FailedToSatisfyReadPreference
    150,   // StaleEpoch
    189,   // PrimarySteppedDown
    234,   // RetryChangeStream
    262,   // ExceededTimeLimit
    9001,  // SocketException
    10107, // NotWritablePrimary
    11600, // InterruptedAtShutdown
    11602, // InterruptedDueToReplStateChange
    13388, // StaleConfig
    13435, // NotPrimaryNoSecondaryOk
    13436, // NotPrimaryOrSecondary
];

/// Codes of retryable reads and of elections that the table above does not have: an `aggregate`
/// that failed with one of them may well succeed a moment later.
const TRANSIENT_BESIDES: [i32; 3] = [
    43,  // CursorNotFound, when a shard lost its cursor while the aggregate was being set up
    134, // ReadConcernMajorityNotAvailableYet
    216, // ElectionInProgress
];

/// The start point has left the oplog.
const HISTORY_LOST: [i32; 3] = [
    136,   // CappedPositionLost, told by servers that only resemble MongoDB
    286,   // ChangeStreamHistoryLost
    40576, // the same before 4.2
];

/// Whether a `getMore` that failed with `code` below wire version 9 is resumed.
#[must_use]
pub fn is_resumable_before_4_4(code: i32) -> bool {
    RESUMABLE_BEFORE_4_4.contains(&code)
}

/// Whether `code` speaks of a state that passes: an election, a shutdown, an unreachable shard.
#[must_use]
pub fn is_transient(code: i32) -> bool {
    RESUMABLE_BEFORE_4_4.contains(&code) || TRANSIENT_BESIDES.contains(&code)
}

/// Whether `code` says, of whatever command, that the oplog no longer reaches back to where the
/// stream stands.
#[must_use]
pub fn is_history_lost(code: i32) -> bool {
    HISTORY_LOST.contains(&code)
}
