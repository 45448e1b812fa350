//! Where a stream starts and starts again (change streams, "Resume Process" and
//! "startAtOperationTime").
//!
//! The specification speaks of results "returned to the user". The machine counts what it
//! delivered to the consumer's queue, because from there nothing is lost: resuming after the end of
//! the queue neither skips nor repeats. Without prefetch the machine fetches only once the queue is
//! used up, so both mean the same. With prefetch they differ in one case, a stream opened with
//! `startAfter` whose first events wait in the queue: it resumes with `resumeAfter` behind those
//! events. That is sound, since what `startAfter` is needed for is to name an invalidate event, and
//! a token behind an event of the new cursor no longer does.

use bson::Timestamp;

use crate::{ResumeToken, WatchOptions};

/// Where an `aggregate` starts, apart from what the caller's options say.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StartPoint {
    /// As the caller's options have it.
    AsOpened,
    /// After a token that may name an invalidate event.
    StartAfter(ResumeToken),
    /// After a token.
    ResumeAfter(ResumeToken),
    /// At or after a cluster time.
    AtOperationTime(Timestamp),
}

/// What the next start point depends on.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    token: Option<ResumeToken>,
    opened_with_start_after: bool,
    opened_with_start_option: bool,
    operation_time: Option<Timestamp>,
    has_events: bool,
}

impl Place {
    pub(crate) fn new(options: &WatchOptions) -> Self {
        let token = options.initial_token().cloned();
        Self {
            opened_with_start_after: options.start_after.is_some(),
            opened_with_start_option: token.is_some() || options.start_at_operation_time.is_some(),
            operation_time: options.start_at_operation_time,
            has_events: false,
            token,
        }
    }

    /// The end of what was delivered.
    pub(crate) fn token(&self) -> Option<&ResumeToken> {
        self.token.as_ref()
    }

    /// The reply to the first `aggregate` had neither events nor a token: its operation time is all
    /// there is to resume from, unless the caller said where to start.
    pub(crate) fn opened_without_token(&mut self, operation_time: Option<Timestamp>) {
        if !self.opened_with_start_option {
            self.operation_time = operation_time;
        }
    }

    /// Moves to the end of a batch. Returns whether that is news.
    pub(crate) fn advance(&mut self, token: Option<ResumeToken>, has_events: bool) -> bool {
        self.has_events |= has_events;
        let moved = token.is_some() && token != self.token;
        if moved {
            self.token = token;
        }
        moved || has_events
    }

    pub(crate) fn start_point(&self) -> StartPoint {
        match (&self.token, self.operation_time) {
            (Some(token), _) if self.opened_with_start_after && !self.has_events => {
                StartPoint::StartAfter(token.clone())
            }
            (Some(token), _) => StartPoint::ResumeAfter(token.clone()),
            (None, Some(time)) => StartPoint::AtOperationTime(time),
            (None, None) => StartPoint::AsOpened,
        }
    }
}
