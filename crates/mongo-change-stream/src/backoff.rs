//! The pace of resumes.

use std::time::{Duration, Instant};

use crate::BackoffConfig;

/// Counts resumes without progress and says how long to wait before the next.
#[derive(Debug)]
pub(crate) struct Backoff {
    config: BackoffConfig,
    attempts: u32,
    failing_since: Option<Instant>,
    rng: SplitMix64,
}

impl Backoff {
    pub(crate) fn new(config: BackoffConfig, seed: u64) -> Self {
        Self {
            config,
            attempts: 0,
            failing_since: None,
            rng: SplitMix64(seed),
        }
    }

    /// Counts one more resume; the wait before its `aggregate`, zero for the first.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let waits = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        if waits == 0 {
            return Duration::ZERO;
        }
        let doubled = 2u32.saturating_pow(waits - 1);
        let delay = self
            .config
            .initial
            .saturating_mul(doubled)
            .min(self.config.maximum);
        // Only ever longer, so that the upper bound on the rate holds whatever the dice say.
        delay.saturating_add(delay.mul_f64(self.rng.next_fraction() / 2.0))
    }

    /// Resumes since the last progress.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn progressed(&mut self) {
        self.attempts = 0;
    }

    /// A cursor that lived longer than the longest wait was no part of a storm.
    pub(crate) fn cursor_lived(&mut self, life: Duration) {
        if life > self.config.maximum {
            self.attempts = 0;
        }
    }

    /// An `aggregate` succeeded.
    pub(crate) fn opened(&mut self) {
        self.failing_since = None;
    }

    /// A resume `aggregate` failed; whether it is to be repeated.
    pub(crate) fn goes_on(&mut self, now: Instant) -> bool {
        let since = *self.failing_since.get_or_insert(now);
        now.saturating_duration_since(since) < self.config.give_up_after
    }
}

/// Steele, Lea and Flood's generator: a few lines, good enough to spread retries.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// At least 0, less than 1.
    fn next_fraction(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).unwrap_or(u32::MAX);
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }
}
