//! When an operation has to be over (Client Side Operations Timeout): arithmetic, without a clock.

use std::time::Duration;

use tokio::time::Instant;

/// The limit of one operation, with everything that it needs: selection, check-out, every try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// There is no `timeoutMS`: the older options, each for a part of an operation, hold.
    Unset,
    /// `timeoutMS` is 0: the older options do not hold, and nothing else does.
    Never,
    /// A moment, and how long after the beginning that is.
    At {
        /// When the time is up.
        until: Instant,
        /// `timeoutMS`.
        limit: Duration,
    },
}

impl Deadline {
    /// The deadline of something that begins now.
    pub(crate) fn after(timeout: Option<Duration>, now: Instant) -> Self {
        match timeout {
            None => Self::Unset,
            Some(limit) if limit.is_zero() => Self::Never,
            Some(limit) => match now.checked_add(limit) {
                Some(until) => Self::At { until, limit },
                None => Self::Never,
            },
        }
    }

    /// Whether `timeoutMS` is given, be it 0.
    pub(crate) fn is_set(self) -> bool {
        self != Self::Unset
    }

    /// What is left; `None` when there is no end.
    pub(crate) fn remaining(self, now: Instant) -> Option<Duration> {
        match self {
            Self::At { until, .. } => Some(until.saturating_duration_since(now)),
            Self::Unset | Self::Never => None,
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_over(self, now: Instant) -> bool {
        self.remaining(now) == Some(Duration::ZERO)
    }

    /// The earlier of this and a moment.
    pub(crate) fn earlier(self, other: Instant) -> Instant {
        match self {
            Self::At { until, .. } => until.min(other),
            Self::Unset | Self::Never => other,
        }
    }

    /// The same without its end: whether it is set is all that counts.
    pub(crate) fn without_end(self) -> Self {
        match self {
            Self::Unset => Self::Unset,
            Self::Never | Self::At { .. } => Self::Never,
        }
    }

    /// `timeoutMS`, for messages; zero when there is none.
    pub(crate) fn limit(self) -> Duration {
        match self {
            Self::At { limit, .. } => limit,
            Self::Unset | Self::Never => Duration::ZERO,
        }
    }

    /// The `maxTimeMS` of a command to a server whose fastest answer takes `round_trip`:
    /// `Ok(None)` when there is no end.
    ///
    /// # Errors
    /// When the answer would come too late.
    pub(crate) fn max_time(self, now: Instant, round_trip: Duration) -> Result<Option<i64>, Late> {
        let Some(remaining) = self.remaining(now) else {
            return Ok(None);
        };
        let left = remaining.checked_sub(round_trip).ok_or(Late)?;
        match i64::try_from(left.as_millis()) {
            // For a server, 0 would be no limit.
            Ok(0) => Err(Late),
            Ok(millis) => Ok(Some(millis)),
            Err(_) => Ok(None),
        }
    }
}

/// Too little time is left to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn nothing_zero_and_too_much_have_no_end_but_differ() {
        let now = Instant::now();
        for (timeout, deadline, is_set) in [
            (None, Deadline::Unset, false),
            (Some(Duration::ZERO), Deadline::Never, true),
            (Some(Duration::MAX), Deadline::Never, true),
        ] {
            let found = Deadline::after(timeout, now);
            assert_eq!(found, deadline);
            assert_eq!(found.is_set(), is_set);
            assert_eq!(found.remaining(now), None);
            assert_eq!(found.earlier(now), now);
            assert_eq!(found.max_time(now, Duration::MAX), Ok(None));
            assert!(!found.is_over(now));
        }
    }

    #[test]
    fn a_server_gets_what_is_left_without_the_way_there_and_back() {
        let start = Instant::now();
        let deadline = Deadline::after(Some(ms(100)), start);
        for (passed, round_trip, max_time) in [
            (0, 0, Ok(Some(100))),
            (30, 20, Ok(Some(50))),
            (30, 69, Ok(Some(1))),
            (30, 70, Err(Late)),
            (30, 71, Err(Late)),
            (100, 0, Err(Late)),
            (500, 0, Err(Late)),
        ] {
            let found = deadline.max_time(start + ms(passed), ms(round_trip));
            assert_eq!(found, max_time, "{passed} {round_trip}");
        }
    }

    proptest! {
        #[test]
        fn time_only_runs_out(limit in 1..10_000_u64, steps in prop::collection::vec(0..500_u64, 1..50)) {
            let mut now = Instant::now();
            let end = now + ms(limit);
            let deadline = Deadline::after(Some(ms(limit)), now);
            let mut before = ms(limit);
            for step in steps {
                now += ms(step);
                let remaining = deadline.remaining(now).unwrap();
                prop_assert!(remaining <= before);
                prop_assert_eq!(now + remaining, end.max(now));
                prop_assert_eq!(deadline.is_over(now), now >= end);
                prop_assert_eq!(deadline.earlier(now), now.min(end));
                let asked = deadline.max_time(now, ms(7)).ok().flatten();
                prop_assert!(asked.is_none_or(|asked| ms(u64::try_from(asked).unwrap()) <= remaining));
                before = remaining;
            }
        }
    }
}
