//! What a reply's error code means for the command that it answers.

use mongo_wire::CommandReply;

/// Codes after which a read may be sent again (Retryable Reads specification, "Retryable Error").
const RETRYABLE_READ: [i32; 13] = [
    6,     // HostUnreachable
    7,     // HostNotFound
    89,    // NetworkTimeout
    91,    // ShutdownInProgress
    134,   // ReadConcernMajorityNotAvailableYet
    189,   // PrimarySteppedDown
    262,   // ExceededTimeLimit
    9001,  // SocketException
    10107, // NotWritablePrimary
    11600, // InterruptedAtShutdown
    11602, // InterruptedDueToReplStateChange
    13435, // NotPrimaryNoSecondaryOk
    13436, // NotPrimaryOrSecondary
];

/// Whether a command that was refused with this code may be sent again if it is a read.
pub(crate) fn is_retryable(code: i32) -> bool {
    RETRYABLE_READ.contains(&code)
}

/// Whether the reply is an error after which a read may be sent again.
pub(crate) fn is_retryable_read(reply: &CommandReply) -> bool {
    // A reply that cannot be read is not worth another one.
    let error = reply.server_error().ok().flatten();
    error.and_then(|error| error.code).is_some_and(is_retryable)
}
