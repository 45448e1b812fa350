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
    /// With what happens from now on, whatever the options say: history was lost.
    Now,
}

/// Where a stream can be started again: a token, and the option it needs.
///
/// ```
/// use mongo_change_stream::{ResumePoint, ResumeToken, WatchOptions};
///
/// # fn saved() -> ResumeToken { bson::rawdoc! { "_data": "82" }.into() }
/// let point = ResumePoint { token: saved(), after_invalidate: true };
/// let mut options = WatchOptions::default();
/// point.apply(&mut options);
/// assert!(options.start_after.is_some() && options.resume_after.is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePoint {
    /// The token.
    pub token: ResumeToken,
    /// Whether it names, or may name, an invalidate event, behind which only `startAfter` starts.
    pub after_invalidate: bool,
}

impl ResumePoint {
    /// Makes it the start of a stream with these options, in the place of any other.
    pub fn apply(&self, options: &mut WatchOptions) {
        let token = Some(self.token.clone());
        (options.start_after, options.resume_after) = if self.after_invalidate {
            (token, None)
        } else {
            (None, token)
        };
        options.start_at_operation_time = None;
    }

    /// A copy that keeps no reply in memory.
    #[must_use]
    pub fn compact(&self) -> Self {
        Self {
            token: self.token.compact(),
            after_invalidate: self.after_invalidate,
        }
    }
}

/// What the next start point depends on.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    token: Option<ResumeToken>,
    /// The token may name an invalidate event: it came by `startAfter` and nothing has come
    /// behind it, or it is the end of a batch whose last event is one.
    needs_start_after: bool,
    opened_with_start_option: bool,
    operation_time: Option<Timestamp>,
    /// Where to start without token and time.
    fallback: StartPoint,
}

/// What a batch means for the place.
#[derive(Debug)]
pub(crate) struct BatchEnd {
    pub(crate) token: Option<ResumeToken>,
    pub(crate) has_events: bool,
    pub(crate) is_invalidate: bool,
}

impl Place {
    pub(crate) fn new(options: &WatchOptions) -> Self {
        let token = options.initial_token().cloned();
        Self {
            needs_start_after: options.start_after.is_some(),
            opened_with_start_option: token.is_some() || options.start_at_operation_time.is_some(),
            operation_time: options.start_at_operation_time,
            fallback: StartPoint::AsOpened,
            token,
        }
    }

    /// Behind a loss: all that was known of the place before is of no use any more.
    pub(crate) fn behind_loss(start: Option<Timestamp>) -> Self {
        Self {
            token: None,
            needs_start_after: false,
            opened_with_start_option: start.is_some(),
            operation_time: start,
            fallback: StartPoint::Now,
        }
    }

    /// The end of what was delivered.
    pub(crate) fn token(&self) -> Option<&ResumeToken> {
        self.token.as_ref()
    }

    /// The cluster time to start at, where there is no token.
    pub(crate) fn operation_time(&self) -> Option<Timestamp> {
        self.operation_time
    }

    /// The reply to the first `aggregate` had neither events nor a token: its operation time is all
    /// there is to resume from, unless the caller said where to start.
    pub(crate) fn opened_without_token(&mut self, operation_time: Option<Timestamp>) {
        if !self.opened_with_start_option {
            self.operation_time = operation_time;
        }
    }

    /// Moves to the end of a batch. Returns whether that is news.
    pub(crate) fn advance(&mut self, end: BatchEnd) -> bool {
        if end.has_events {
            self.needs_start_after = end.is_invalidate;
        }
        let moved = end.token.is_some() && end.token != self.token;
        if moved {
            self.token = end.token;
        }
        moved || end.has_events
    }

    /// The server has ended the cursor here.
    pub(crate) fn invalidated(&mut self) {
        self.needs_start_after = true;
    }

    pub(crate) fn start_point(&self) -> StartPoint {
        match (&self.token, self.operation_time) {
            (Some(token), _) if self.needs_start_after => StartPoint::StartAfter(token.clone()),
            (Some(token), _) => StartPoint::ResumeAfter(token.clone()),
            (None, Some(time)) => StartPoint::AtOperationTime(time),
            (None, None) => self.fallback.clone(),
        }
    }
}
