//! What a reply's error code means for the command that it answers.

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

/// MaxTimeMSExpired.
pub(crate) const MAX_TIME_MS_EXPIRED: i32 = 50;

/// Whether a command that was refused with this code may be sent again if it is a read.
pub(crate) fn is_retryable(code: i32) -> bool {
    RETRYABLE_READ.contains(&code)
}
