//! What a stream's task and its handle have in common.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use mongo_change_stream::{
    BatchReader, ResumeToken, StreamBatch, StreamError, StreamPosition, WatchOptions,
};

use tokio::time::Instant;
use tracing::Span;

use crate::error::Error;

/// The delivered batches and how the stream ended. Locked for moments only, never while waiting.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// What is done for a call belongs into the span that the call was made in.
    is_traced: bool,
}

#[derive(Debug)]
struct State {
    reader: BatchReader,
    /// Of the one handle that waits.
    waker: Option<Waker>,
    /// A demand was told to the task and no delivery has answered it yet.
    demanded: bool,
    /// Where the call was made that waits.
    caller: Option<Span>,
    /// Since when the consumer's call has waited.
    waits_since: Option<Instant>,
    /// Batches delivered, the empty ones included.
    deliveries: u64,
    /// The consumer's time was over, and it does not know it yet.
    lapse: Option<Error>,
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    Failed(Error),
    /// The end is known to the consumer, or there is nothing to know.
    Told,
}

/// What a look at the stream finds.
pub(super) enum Step<T> {
    /// What was asked for, and the number of batches begun with it.
    Found {
        found: Result<T, StreamError>,
        taken: usize,
    },
    /// Nothing comes any more, or not in time; the error, once.
    Ended(Option<Error>),
    /// Nothing yet; `demand` says that the task has to be asked for a batch.
    Wait { demand: bool },
}

impl State {
    /// The stream has no event right now.
    fn nothing<T>(&mut self, waker: Option<&Waker>) -> Step<T> {
        if self.reader.has_failed() {
            return Step::Ended(None);
        }
        if let Some(error) = self.lapse.take() {
            self.waits_since = None;
            return Step::Ended(Some(error));
        }
        match self.end.replace(End::Told) {
            Some(End::Failed(error)) => return Step::Ended(Some(error)),
            Some(End::Told) => return Step::Ended(None),
            None => self.end = None,
        }
        let Some(waker) = waker else {
            return Step::Wait { demand: false };
        };
        self.waits_since.get_or_insert_with(Instant::now);
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        let demand = !std::mem::replace(&mut self.demanded, true);
        Step::Wait { demand }
    }
}

impl Shared {
    pub(super) fn new(options: &WatchOptions, is_traced: bool) -> Self {
        let reader = BatchReader::new(options);
        let state = State {
            reader,
            waker: None,
            demanded: false,
            caller: None,
            waits_since: None,
            deliveries: 0,
            lapse: None,
            end: None,
        };
        Self {
            state: Mutex::new(state),
            is_traced,
        }
    }

    /// A call is made, here and now, that the task has to do something for.
    pub(super) fn called(&self) {
        if self.is_traced {
            let caller = Span::current();
            self.lock().caller = Some(caller);
        }
    }

    /// The span of the call that waits.
    pub(super) fn caller(&self) -> Option<Span> {
        self.is_traced.then(|| self.lock().caller.clone())?
    }

    /// The call has got what it waited for: its span is not to be kept any longer.
    pub(super) fn answered(&self) {
        if self.is_traced {
            let caller = self.lock().caller.take();
            drop(caller);
        }
    }

    /// What `read`, one of the reader's ways to hand out what it has, finds next, or what to wait for;
    /// a waker is called when there is news.
    #[inline]
    pub(super) fn step<T>(
        &self,
        read: impl FnOnce(&mut BatchReader) -> Option<Result<T, StreamError>>,
        waker: Option<&Waker>,
    ) -> Step<T> {
        let mut state = self.lock();
        if let Some(found) = read(&mut state.reader) {
            let taken = state.reader.poll_taken();
            state.waits_since = None;
            return Step::Found { found, taken };
        }
        state.nothing(waker)
    }

    pub(super) fn deliver(&self, batch: StreamBatch) {
        let is_answer = batch.is_answer();
        if is_answer {
            self.answered();
        }
        let mut state = self.lock();
        state.reader.push(batch);
        if is_answer {
            state.deliveries += 1;
            state.demanded = false;
            state.lapse = None;
            wake(state);
        }
    }

    /// The time of whoever waits is over.
    pub(super) fn lapse(&self, error: Error) {
        self.answered();
        let mut state = self.lock();
        state.lapse = Some(error);
        state.demanded = false;
        wake(state);
    }

    /// A call of the consumer's begins, or has given up. What another call has met, and how long it
    /// has waited, is nobody's business any more.
    pub(super) fn begin_call(&self) {
        let mut state = self.lock();
        state.lapse = None;
        state.waits_since = None;
    }

    /// Whether somebody waits for what has to be asked for.
    pub(super) fn is_demanded(&self) -> bool {
        self.lock().demanded
    }

    /// Since when somebody waits for what has to be asked for.
    pub(super) fn demanded_since(&self) -> Option<Instant> {
        let state = self.lock();
        state.waits_since.filter(|_| state.demanded)
    }

    /// The task's last word.
    pub(super) fn finish(&self, result: Result<(), Error>) {
        self.answered();
        let mut state = self.lock();
        state.end = Some(result.map_or_else(End::Failed, |()| End::Told));
        wake(state);
    }

    pub(super) fn deliveries(&self) -> u64 {
        self.lock().deliveries
    }

    pub(super) fn resume_token(&self) -> Option<ResumeToken> {
        self.lock().reader.resume_token()
    }

    pub(super) fn position(&self) -> StreamPosition {
        self.lock().reader.position()
    }

    pub(super) fn is_alive(&self) -> bool {
        let state = self.lock();
        match state.end {
            _ if state.reader.has_failed() => false,
            // An error is still to be told.
            None | Some(End::Failed(_)) => true,
            Some(End::Told) => !state.reader.is_drained(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the handle after the lock is let go, so that it need not wait for it.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Misuse;

    #[test]
    fn a_stream_is_alive_until_its_error_is_told() {
        let shared = Shared::new(&WatchOptions::default(), false);
        assert!(shared.is_alive());
        shared.finish(Err(Error::Misuse(Misuse::TaskGone)));
        assert!(
            shared.is_alive(),
            "a loop that asks would never see the error"
        );
        let step = shared.step(BatchReader::next_event, None);
        assert!(matches!(step, Step::Ended(Some(_))));
        assert!(!shared.is_alive());
        let step = shared.step(BatchReader::next_event, None);
        assert!(matches!(step, Step::Ended(None)));
    }
}
