//! Whether and when a command is sent again (Retryable Reads, Retryable Writes; Client Backpressure,
//! "Overload retry policy"): pure.

use std::time::Duration;

use bson::RawBsonRef;
use mongo_topology::SYSTEM_OVERLOADED_ERROR;
use mongo_wire::CommandReply;

use crate::error::{Error, RETRYABLE_ERROR, RETRYABLE_WRITE_ERROR, codes};

/// The first pause before an overloaded server is asked again, but for doubling and chance.
const BASE_BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// `maxAdaptiveRetries` where the connection string gives none.
pub(crate) const MAX_ADAPTIVE_RETRIES: u32 = 2;

/// `maxWireVersion` of the first server that says itself which writes may be repeated (4.4).
pub(super) const LABELS_WIRE_VERSION: i32 = 9;

/// What may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// A read that did not get through.
    pub(crate) reads: bool,
    /// A write that servers know again.
    pub(crate) writes: bool,
    /// Whatever a server had no time for and did not begin.
    pub(crate) overloads: bool,
    /// How often it is sent again while time is left, not counting overload; without a limit for
    /// the operation that is once.
    pub(crate) has_deadline: bool,
    /// How often at most, once a server was overloaded.
    pub(crate) max_adaptive: u32,
}

/// What a failure says about sending the command again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failed {
    /// A read may be sent again.
    pub(crate) reads: bool,
    /// A write that the server knows again may be sent again.
    pub(crate) writes: bool,
    /// The server was too busy.
    pub(crate) is_overload: bool,
    /// The server says that nothing has happened yet.
    pub(crate) is_retryable: bool,
    /// How long the server wants the first pause to be.
    pub(crate) base_backoff: Option<Duration>,
}

impl Failed {
    /// What an error says.
    pub(crate) fn of_error(error: &Error) -> Self {
        Self {
            reads: error.says_try_elsewhere() || error.code().is_some_and(codes::is_retryable),
            writes: error.says_try_elsewhere(),
            is_overload: error.has_label(SYSTEM_OVERLOADED_ERROR),
            is_retryable: error.has_label(RETRYABLE_ERROR),
            base_backoff: None,
        }
    }

    /// What a reply says; `None` when it is no error, or one that cannot be read.
    pub(crate) fn of_reply(reply: &CommandReply) -> Option<Self> {
        let error = reply.server_error().ok().flatten()?;
        let base = reply
            .document()
            .as_raw()
            .get("baseBackoffMS")
            .ok()
            .flatten();
        Some(Self {
            reads: error.code.is_some_and(codes::is_retryable),
            writes: false,
            is_overload: error.has_label(SYSTEM_OVERLOADED_ERROR),
            is_retryable: error.has_label(RETRYABLE_ERROR),
            base_backoff: base.and_then(millis).filter(|base| !base.is_zero()),
        })
    }

    /// What a reply to a write that the server knows again says: also one that was done, but not
    /// as durably as was asked.
    pub(crate) fn of_write(
        reply: &CommandReply,
        max_wire_version: i32,
        is_mongos: bool,
    ) -> Option<Self> {
        let refused = reply.server_error().ok()?;
        let is_refused = refused.is_some();
        let error = refused.or_else(|| reply.write_concern_error().ok().flatten())?;
        let writes = if max_wire_version >= LABELS_WIRE_VERSION {
            error.has_label(RETRYABLE_WRITE_ERROR)
        } else {
            // An older router has repeated it itself.
            (is_refused || !is_mongos) && error.code.is_some_and(codes::is_retryable_write)
        };
        let failed = Self::of_reply(reply).unwrap_or_default();
        Some(Self { writes, ..failed })
    }
}

/// A number of any type, which no document of the server's gives as such.
fn millis(value: RawBsonRef<'_>) -> Option<Duration> {
    match value {
        RawBsonRef::Int32(millis) => u64::try_from(millis).ok().map(Duration::from_millis),
        RawBsonRef::Int64(millis) => u64::try_from(millis).ok().map(Duration::from_millis),
        RawBsonRef::Double(millis) => Duration::try_from_secs_f64(millis / 1000.0).ok(),
        _ => None,
    }
}

/// The tries of one command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    policy: RetryPolicy,
    retried: u32,
    allowed: u32,
}

impl Retries {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            retried: 0,
            allowed: if policy.has_deadline { u32::MAX } else { 1 },
        }
    }

    /// After a failure: how long to wait before the next try, `None` when there is none. Chance is
    /// given as a number from 0 to 1.
    pub(crate) fn next(&mut self, failed: &Failed, chance: f64) -> Option<Duration> {
        let is_retryable = (self.policy.reads && failed.reads)
            || (self.policy.writes && failed.writes)
            || (self.policy.overloads && failed.is_overload && failed.is_retryable);
        if failed.is_overload {
            self.allowed = self.policy.max_adaptive;
        }
        if !is_retryable || self.retried >= self.allowed {
            return None;
        }
        self.retried += 1;
        if !failed.is_overload {
            return Some(Duration::ZERO);
        }
        let base = failed.base_backoff.unwrap_or(BASE_BACKOFF);
        let doubled = base.saturating_mul(1 << self.retried.min(16));
        Some(doubled.min(MAX_BACKOFF).mul_f64(chance.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        reads: true,
        writes: false,
        overloads: true,
        has_deadline: false,
        max_adaptive: 2,
    };
    const READ: Failed = Failed {
        reads: true,
        writes: false,
        is_overload: false,
        is_retryable: false,
        base_backoff: None,
    };
    const OVERLOAD: Failed = Failed {
        reads: false,
        writes: false,
        is_overload: true,
        is_retryable: true,
        base_backoff: None,
    };

    /// The pauses after such failures, in milliseconds, at full chance.
    fn pauses(policy: RetryPolicy, failures: &[Failed]) -> Vec<u128> {
        let mut retries = Retries::new(policy);
        let pauses = failures
            .iter()
            .map_while(|failed| retries.next(failed, 1.0));
        pauses.map(|pause| pause.as_millis()).collect()
    }

    #[test]
    fn what_is_sent_again_and_how_often() {
        let has_deadline = RetryPolicy {
            has_deadline: true,
            ..POLICY
        };
        let no_reads = RetryPolicy {
            reads: false,
            ..POLICY
        };
        let no_overloads = RetryPolicy {
            overloads: false,
            ..POLICY
        };
        let often = RetryPolicy {
            max_adaptive: 9,
            ..POLICY
        };
        let writes = RetryPolicy {
            reads: false,
            writes: true,
            ..POLICY
        };
        let write = Failed {
            reads: false,
            writes: true,
            ..READ
        };
        let busy_read = Failed {
            is_retryable: false,
            reads: true,
            ..OVERLOAD
        };
        let unlabelled = Failed {
            is_retryable: false,
            ..OVERLOAD
        };
        let quick = Failed {
            base_backoff: Some(Duration::from_millis(50)),
            ..OVERLOAD
        };
        for (policy, failures, expected) in [
            (POLICY, vec![READ; 5], vec![0]),
            (has_deadline, vec![READ; 5], vec![0; 5]),
            (no_reads, vec![READ; 5], vec![]),
            (POLICY, vec![write; 5], vec![]),
            (writes, vec![READ; 5], vec![]),
            (writes, vec![write; 5], vec![0]),
            (writes, vec![OVERLOAD, write, write], vec![200, 0]),
            (POLICY, vec![OVERLOAD; 5], vec![200, 400]),
            (has_deadline, vec![OVERLOAD; 5], vec![200, 400]),
            (no_reads, vec![OVERLOAD; 5], vec![200, 400]),
            (no_overloads, vec![OVERLOAD; 5], vec![]),
            (POLICY, vec![unlabelled; 5], vec![]),
            (no_reads, vec![busy_read; 5], vec![]),
            (POLICY, vec![busy_read; 5], vec![200, 400]),
            (POLICY, vec![quick; 5], vec![100, 200]),
            // One overload bounds everything that comes after it.
            (POLICY, vec![OVERLOAD, READ, READ], vec![200, 0]),
            (has_deadline, vec![READ, READ, OVERLOAD], vec![0, 0]),
            (
                RetryPolicy {
                    max_adaptive: 0,
                    ..POLICY
                },
                vec![OVERLOAD],
                vec![],
            ),
            (
                often,
                vec![OVERLOAD; 12],
                vec![200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000],
            ),
        ] {
            assert_eq!(
                pauses(policy, &failures),
                expected,
                "{policy:?} {failures:?}"
            );
        }
    }

    #[test]
    fn a_write_is_repeated_as_the_server_says_or_as_its_age_has_it() {
        let label = rawdoc! { "l": [RETRYABLE_WRITE_ERROR] };
        let label = || label.get_array("l").unwrap().to_owned();
        let none = || bson::RawArrayBuf::new();
        let refused = |code: i32, labels: bson::RawArrayBuf| {
            rawdoc! { "ok": 0, "code": code, "errorLabels": labels }
        };
        let unsafe_yet = |code: i32, labels: bson::RawArrayBuf| {
            let error = rawdoc! { "code": code, "errmsg": "" };
            rawdoc! { "ok": 1, "n": 1, "writeConcernError": error, "errorLabels": labels }
        };
        let duplicate = || {
            let error = rawdoc! { "index": 0, "code": 91, "errmsg": "" };
            rawdoc! { "ok": 1, "n": 0, "writeErrors": [error] }
        };
        // 8 is 4.2, 9 is 4.4; 91 is ShutdownInProgress, 134 for reads only, 64 WriteConcernFailed.
        for (reply, wire_version, is_mongos, writes) in [
            (refused(91, none()), 8, false, Some(true)),
            (refused(91, none()), 8, true, Some(true)),
            (refused(91, none()), 9, false, Some(false)),
            (refused(2, label()), 9, false, Some(true)),
            (refused(2, none()), 8, false, Some(false)),
            (refused(134, none()), 8, false, Some(false)),
            (unsafe_yet(91, none()), 8, false, Some(true)),
            (unsafe_yet(91, none()), 8, true, Some(false)),
            (unsafe_yet(91, none()), 9, false, Some(false)),
            (unsafe_yet(91, label()), 9, true, Some(true)),
            (unsafe_yet(64, none()), 8, false, Some(false)),
            (duplicate(), 8, false, None),
            (rawdoc! { "ok": 1, "n": 1 }, 9, false, None),
        ] {
            let shown = format!("{reply:?} {wire_version} {is_mongos}");
            let failed =
                Failed::of_write(&CommandReply::new(reply.into()), wire_version, is_mongos);
            assert_eq!(failed.map(|failed| failed.writes), writes, "{shown}");
        }
    }

    #[test]
    fn chance_shortens_a_pause() {
        for (chance, pause) in [(0.0, 0), (0.5, 100), (1.0, 200), (7.0, 200), (-1.0, 0)] {
            let pause = Duration::from_millis(pause);
            assert_eq!(Retries::new(POLICY).next(&OVERLOAD, chance), Some(pause));
        }
    }

    #[test]
    fn a_reply_tells_labels_code_and_pause() {
        let labels = bson::rawdoc! { "l": [SYSTEM_OVERLOADED_ERROR, RETRYABLE_ERROR] };
        let labels = labels.get_array("l").unwrap().to_owned();
        let busy = |base: bson::RawBson| {
            let reply = rawdoc! { "ok": 0, "code": 462, "errorLabels": labels.clone(), "baseBackoffMS": base };
            Failed::of_reply(&CommandReply::new(reply.into()))
        };
        let base = |millis| {
            Some(Failed {
                base_backoff: Some(Duration::from_millis(millis)),
                ..OVERLOAD
            })
        };
        assert_eq!(busy(50.into()), base(50));
        assert_eq!(busy(50_i64.into()), base(50));
        assert_eq!(busy(50.0.into()), base(50));
        for nonsense in [0.into(), (-1).into(), f64::NAN.into(), bson::RawBson::Null] {
            assert_eq!(busy(nonsense), Some(OVERLOAD));
        }
        let stepped_down = rawdoc! { "ok": 0, "code": 189 };
        assert_eq!(
            Failed::of_reply(&CommandReply::new(stepped_down.into())),
            Some(READ)
        );
        let fine = rawdoc! { "ok": 1 };
        assert_eq!(Failed::of_reply(&CommandReply::new(fine.into())), None);
    }
}
