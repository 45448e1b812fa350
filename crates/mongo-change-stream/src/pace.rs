//! Keeps an idle stream from becoming a busy loop.
//!
//! A server holds an idle `getMore` for the await time. Some that only resemble MongoDB answer at
//! once; they are asked more and more slowly, until there is news.

use std::time::{Duration, Instant};

/// Early empty replies in a row that nobody minds.
const FREE_REPLIES: u32 = 3;
/// The first wait, doubled from then on.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// What servers take for the await time when they are not told.
pub(crate) const DEFAULT_AWAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pace {
    /// An empty reply that comes sooner is early; also the longest wait.
    early: Duration,
    early_replies: u32,
    not_before: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(max_await_time: Option<Duration>) -> Self {
        let early = max_await_time.unwrap_or(DEFAULT_AWAIT).min(DEFAULT_AWAIT) / 2;
        Self {
            early,
            early_replies: 0,
            not_before: None,
        }
    }

    /// A `getMore` was answered after `took`.
    pub(crate) fn answered(&mut self, took: Duration, has_events: bool, now: Instant) {
        self.not_before = None;
        if has_events || took >= self.early {
            self.early_replies = 0;
            return;
        }
        self.early_replies = self.early_replies.saturating_add(1);
        if let Some(waits) = self.early_replies.checked_sub(FREE_REPLIES + 1) {
            let wait = FIRST_WAIT.saturating_mul(2u32.saturating_pow(waits));
            self.not_before = now.checked_add(wait.min(self.early));
        }
    }

    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    pub(crate) fn allows(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|time| time <= now)
    }
}
