//! The consumer's half: hands out events and keeps the token
//! (change streams, "Updating the Cached Resume Token").
//!
//! The token follows what was handed out, never what was received. It is worked out when somebody
//! asks for it, so that handing out an event costs nothing but stepping to it.

use std::{collections::VecDeque, time::Instant};

use bson::{Timestamp, raw::RawDocument};
use mongo_wire::{BatchDocuments, Document};

use crate::{
    EventBatch, EventRef, Gap, OperationType, Phase, RawEvent, ResumePoint, ResumeToken,
    StreamBatch, StreamError, WatchOptions, event,
};

/// Reads delivered batches event by event.
///
/// Owned by the handle the application reads from; the machine's owner passes it the batches. It
/// holds the batch being read and those behind it; how many, the machine's window decides.
///
/// ```
/// # use mongo_change_stream::{BatchReader, StreamBatch, StreamError, WatchOptions};
/// # fn arrived() -> Vec<StreamBatch> { Vec::new() }
/// let mut reader = BatchReader::new(&WatchOptions::default());
/// for batch in arrived() {
///     reader.push(batch);
/// }
/// while let Some(event) = reader.next_event() {
///     let event = event?; // terminal: close the stream
///     println!("{:?} {:?}", event.operation_type(), event.document_key());
///     let _checkpoint = reader.resume_token(); // behind this event
/// }
/// // Used up: tell the machine `Demanded` and wait for the next batch.
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Debug)]
pub struct BatchReader {
    /// The place when no batch is being read.
    token: Option<ResumeToken>,
    /// That token may name an invalidate event.
    after_invalidate: bool,
    operation_time: Option<Timestamp>,
    event_time: Option<Timestamp>,
    current: Option<Current>,
    waiting: VecDeque<StreamBatch>,
    failed: bool,
    taken: usize,
    progress: Progress,
}

/// The batch being read, at least one event of which was handed out or found bad.
#[derive(Debug)]
struct Current {
    batch: StreamBatch,
    /// Stands at the event that was handed out last, unless the rest was handed out at once.
    rest: BatchDocuments,
    left: usize,
}

#[derive(Debug, Default)]
struct Progress {
    events: u64,
    batches: u64,
    last_reply: Option<Instant>,
    last_empty_batch: Option<Instant>,
    last_event: Option<Instant>,
    gaps: u64,
    last_gap: Option<Gap>,
}

/// Where a stream stands, and since when. Times are those at which replies came in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StreamPosition {
    /// What a new stream would resume with.
    pub token: Option<ResumeToken>,
    /// The token's place in the oplog, or that of the last event where the token does not tell.
    pub cluster_time: Option<Timestamp>,
    /// `operationTime` of the last reply that was read to its end.
    pub operation_time: Option<Timestamp>,
    /// Events handed out.
    pub events: u64,
    /// Batches received, the empty ones included.
    pub batches: u64,
    /// The last reply.
    pub last_reply: Option<Instant>,
    /// The last reply without events: then the stream had caught up.
    pub last_empty_batch: Option<Instant>,
    /// The reply that held the last event handed out.
    pub last_event: Option<Instant>,
    /// Whether the token may name an invalidate event, behind which only `startAfter` starts.
    pub after_invalidate: bool,
    /// How often events were left out before this place, as the policies say.
    pub gaps: u64,
    /// The last of these gaps.
    pub last_gap: Option<Gap>,
}

impl StreamPosition {
    /// Where another stream would go on behind what was handed out: save this.
    #[must_use]
    pub fn resume_point(&self) -> Option<ResumePoint> {
        let token = self.token.clone()?;
        Some(ResumePoint {
            token,
            after_invalidate: self.after_invalidate,
        })
    }
}

impl BatchReader {
    /// A reader for a stream with these options, whose token is the place it starts from.
    #[must_use]
    pub fn new(options: &WatchOptions) -> Self {
        Self {
            token: options.initial_token().cloned(),
            after_invalidate: options.start_after.is_some(),
            operation_time: None,
            event_time: None,
            current: None,
            waiting: VecDeque::new(),
            failed: false,
            taken: 0,
            progress: Progress::default(),
        }
    }

    /// Takes a delivered batch. An empty one is merged into the place behind whatever waits, so
    /// that any number of them takes no room; one that has a gap to tell of is kept.
    pub fn push(&mut self, batch: StreamBatch) {
        if self.failed {
            return;
        }
        self.progress.batches += 1;
        self.progress.last_reply = Some(batch.received_at);
        if batch.is_empty() {
            self.progress.last_empty_batch = Some(batch.received_at);
        }
        if !batch.is_empty() || !batch.gaps.is_empty() {
            self.waiting.push_back(batch);
            return;
        }
        let current = self.current.as_mut().map(|current| &mut current.batch);
        let (token, operation_time, closes_cursor) = match self.waiting.back_mut().or(current) {
            Some(last) => (
                &mut last.token,
                &mut last.operation_time,
                &mut last.closes_cursor,
            ),
            None => (
                &mut self.token,
                &mut self.operation_time,
                &mut self.after_invalidate,
            ),
        };
        if batch.token.is_some() {
            *token = batch.token;
        }
        if batch.operation_time.is_some() {
            *operation_time = batch.operation_time;
        }
        *closes_cursor |= batch.closes_cursor;
    }

    /// Hands out the next event as a slice of its reply; `None` when all batches are used up.
    ///
    /// # Errors
    /// [`StreamError::Reply`] at a malformed element, [`StreamError::MissingResumeToken`] at an
    /// event without `_id`. Both are terminal: the reader hands out nothing more, and its owner has
    /// to close the stream.
    #[inline]
    pub fn next_event(&mut self) -> Option<Result<RawEvent, StreamError>> {
        let document = match self.advance()? {
            Ok(()) => self.current.as_ref()?.rest.share()?,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(RawEvent::from(document)))
    }

    /// The same, lent: valid until the next call, without a reference count.
    ///
    /// # Errors
    /// As [`next_event`](Self::next_event).
    pub fn next_ref(&mut self) -> Option<Result<EventRef<'_>, StreamError>> {
        match self.advance()? {
            Ok(()) => {
                let current = self.current.as_ref()?;
                Some(Ok(EventRef::new(current.event()?)))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Hands out, at once, all that is left of the batch being read, or else the next batch; `None`
    /// when all batches are used up. The token then stands behind the last of these events.
    ///
    /// # Errors
    /// As [`next_event`](Self::next_event), once the events before the bad one were handed out.
    pub fn next_batch(&mut self) -> Option<Result<EventBatch, StreamError>> {
        match self.advance()? {
            Ok(()) => {}
            Err(error) => return Some(Err(error)),
        }
        let current = self.current.as_mut()?;
        let first = current.batch.count - current.left - 1;
        let count = 1 + std::mem::take(&mut current.left);
        let batch = current.batch.clone();
        self.progress.events += u64::try_from(count - 1).unwrap_or(0);
        let token = self.resume_token();
        Some(Ok(EventBatch {
            batch,
            first,
            count,
            token,
        }))
    }

    /// The token to resume with after what was handed out last. Keeps its reply in memory; see
    /// [`ResumeToken::compact`].
    #[must_use]
    pub fn resume_token(&self) -> Option<ResumeToken> {
        self.current
            .as_ref()
            .and_then(Current::token)
            .or_else(|| self.token.clone())
    }

    /// The same, with the option that the token needs.
    #[must_use]
    pub fn resume_point(&self) -> Option<ResumePoint> {
        self.position().resume_point()
    }

    /// Where the stream stands.
    #[must_use]
    pub fn position(&self) -> StreamPosition {
        let token = self.resume_token();
        let event_time = self
            .current
            .as_ref()
            .and_then(Current::event_time)
            .or(self.event_time);
        let operation_time = match &self.current {
            Some(current) if current.is_at_end() => current.batch.operation_time,
            _ => self.operation_time,
        };
        StreamPosition {
            cluster_time: token
                .as_ref()
                .and_then(ResumeToken::cluster_time)
                .or(event_time),
            token,
            operation_time,
            events: self.progress.events,
            batches: self.progress.batches,
            last_reply: self.progress.last_reply,
            last_empty_batch: self.progress.last_empty_batch,
            last_event: self.progress.last_event,
            after_invalidate: self
                .current
                .as_ref()
                .filter(|current| current.event().is_some())
                .map_or(self.after_invalidate, Current::is_at_invalidate),
            gaps: self.progress.gaps,
            last_gap: self.progress.last_gap.clone(),
        }
    }

    /// Whether no event is left to hand out.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let used_up = || self.current.as_ref().is_none_or(Current::is_used_up);
        self.failed || (self.waiting.is_empty() && used_up())
    }

    /// Whether a bad event has ended the stream.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Batches taken up since this was last asked; the machine wants an
    /// [`Input::BatchTaken`](crate::Input::BatchTaken) for each.
    #[inline]
    #[must_use]
    pub fn poll_taken(&mut self) -> usize {
        std::mem::take(&mut self.taken)
    }

    /// Steps to the next event.
    #[inline]
    fn advance(&mut self) -> Option<Result<(), StreamError>> {
        if self.failed {
            return None;
        }
        loop {
            if self.current.is_none() {
                let mut batch = self.waiting.pop_front()?;
                self.taken += usize::from(!batch.is_empty());
                self.progress.pass(std::mem::take(&mut batch.gaps));
                self.current = Some(Current::new(batch));
            }
            let current = self.current.as_mut()?;
            match current.advance() {
                Some(Ok(())) => {
                    self.progress.events += 1;
                    self.progress.last_event = Some(current.batch.received_at);
                    return Some(Ok(()));
                }
                Some(Err(error)) => {
                    self.failed = true;
                    return Some(Err(error));
                }
                None => self.settle(),
            }
        }
    }

    /// Lets go of a used up batch and keeps the place behind it.
    fn settle(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.event_time = current.event_time().or(self.event_time);
        if current.event().is_some() {
            self.after_invalidate = current.is_at_invalidate();
        }
        // The event's own token is a slice of the reply, which must not outlive its use.
        self.token = match (&current.batch.token, current.token()) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(token)) => Some(token.compact()),
            (None, None) => self.token.take(),
        };
        self.operation_time = current.batch.operation_time.or(self.operation_time);
    }
}

impl Progress {
    fn pass(&mut self, gaps: Vec<Gap>) {
        self.gaps += u64::try_from(gaps.len()).unwrap_or(0);
        self.last_gap = gaps.into_iter().next_back().or(self.last_gap.take());
    }
}

impl Current {
    fn new(batch: StreamBatch) -> Self {
        Self {
            rest: batch.events.documents(),
            left: batch.count,
            batch,
        }
    }

    #[inline]
    fn advance(&mut self) -> Option<Result<(), StreamError>> {
        if self.left == 0 {
            return self.batch.error.take().map(Err);
        }
        self.left -= 1;
        let step = self.rest.step()?;
        let phase = Phase::GetMore;
        Some(step.map_err(|error| StreamError::Reply { phase, error }))
    }

    /// The event that was handed out last.
    fn event(&self) -> Option<&RawDocument> {
        if self.left == 0 {
            return self.batch.last.as_ref().map(Document::as_raw);
        }
        RawDocument::from_bytes(self.rest.here()?).ok()
    }

    fn is_used_up(&self) -> bool {
        self.left == 0 && self.batch.error.is_none()
    }

    /// Behind its last event.
    fn is_at_end(&self) -> bool {
        self.left == 0 && self.batch.last.is_some()
    }

    /// Behind the last event of a batch that names its end stands that end, behind any other event
    /// its `_id`.
    fn token(&self) -> Option<ResumeToken> {
        match &self.batch.token {
            Some(token) if self.is_at_end() => Some(token.clone()),
            _ if self.left == 0 => event::token_of(self.batch.last.as_ref()?),
            _ => event::token_of(&self.rest.share()?),
        }
    }

    /// The last event may be one whose type is not known, as a projection may leave it out: the
    /// server closes the cursor behind it.
    fn is_at_invalidate(&self) -> bool {
        let operation = self
            .event()
            .map(EventRef::new)
            .and_then(EventRef::operation_type);
        operation == Some(OperationType::Invalidate)
            || (self.is_at_end() && self.batch.closes_cursor)
    }

    fn event_time(&self) -> Option<Timestamp> {
        EventRef::new(self.event()?).cluster_time()
    }
}
