//! What a reply's error code means for the command that it answers.

/// Codes after which a read may be sent again (Retryable Reads, "Retryable Error"), and a write to a
/// server that does not say so itself (Retryable Writes, "RetryableWriteError Labels").
const RETRYABLE: [i32; 12] = [
    6,     // HostUnreachable
    7,     // HostNotFound
    89,    // NetworkTimeout
    91,    // ShutdownInProgress
    189,   // PrimarySteppedDown
    262,   // ExceededTimeLimit
    9001,  // SocketException
    10107, // NotWritablePrimary
    11600, // InterruptedAtShutdown
    11602, // InterruptedDueToReplStateChange
    13435, // NotPrimaryNoSecondaryOk
    13436, // NotPrimaryOrSecondary
];

/// ReadConcernMajorityNotAvailableYet, after which a read may be sent again too.
const READ_CONCERN_MAJORITY_NOT_AVAILABLE_YET: i32 = 134;
/// CursorNotFound.
pub(crate) const CURSOR_NOT_FOUND: i32 = 43;
/// IllegalOperation.
pub(crate) const ILLEGAL_OPERATION: i32 = 20;
/// ReauthenticationRequired.
pub(crate) const REAUTHENTICATION_REQUIRED: i32 = 391;
/// MaxTimeMSExpired.
pub(crate) const MAX_TIME_MS_EXPIRED: i32 = 50;

/// Whether a command that was refused with this code may be sent again if it is a read.
pub(crate) fn is_retryable(code: i32) -> bool {
    RETRYABLE.contains(&code) || code == READ_CONCERN_MAJORITY_NOT_AVAILABLE_YET
}

/// Whether a write that was refused with this code may be repeated.
pub(crate) fn is_retryable_write(code: i32) -> bool {
    RETRYABLE.contains(&code)
}
