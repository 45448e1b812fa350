//! The consumer's half: hands out events and keeps the token
//! (change streams, "Updating the Cached Resume Token").
//!
//! The token follows what was handed out, never what was received. It is worked out when somebody
//! asks for it, so that handing out an event costs nothing but stepping to it.

use std::{collections::VecDeque, time::Instant};

use bson::Timestamp;
use mongo_wire::{BatchDocuments, DecodeError, Document, ReplyError};

use crate::{
    EventBatch, EventRef, Gap, OperationType, RawEvent, ResumePoint, ResumeToken, StreamBatch,
    StreamError, WatchOptions, event,
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
    /// Found behind a batch that was handed out; told by the next call.
    bad_event: Option<StreamError>,
    failed: bool,
    taken: usize,
    progress: Progress,
}

/// The batch being read, at least one event of which was handed out or found bad.
#[derive(Debug)]
struct Current {
    batch: StreamBatch,
    rest: BatchDocuments,
    left: usize,
    event: Option<Document>,
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
            bad_event: None,
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
        let (token, operation_time) = match (self.waiting.back_mut(), &mut self.current) {
            (Some(last), _) => (&mut last.token, &mut last.operation_time),
            (None, Some(current)) => (&mut current.batch.token, &mut current.batch.operation_time),
            (None, None) => (&mut self.token, &mut self.operation_time),
        };
        if batch.token.is_some() {
            *token = batch.token;
        }
        if batch.operation_time.is_some() {
            *operation_time = batch.operation_time;
        }
    }

    /// Hands out the next event as a slice of its reply; `None` when all batches are used up.
    ///
    /// # Errors
    /// [`StreamError::Reply`] at a malformed element, [`StreamError::MissingResumeToken`] at an
    /// event without `_id`. Both are terminal: the reader hands out nothing more, and its owner has
    /// to close the stream.
    pub fn next_event(&mut self) -> Option<Result<RawEvent, StreamError>> {
        let document = match self.advance()? {
            Ok(()) => self.current.as_ref()?.event.clone()?,
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
                let document = self.current.as_ref()?.event.as_ref()?;
                Some(Ok(EventRef::new(document.as_raw())))
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
        let (batch, first) = {
            let current = self.current.as_ref()?;
            (
                current.batch.clone(),
                current.batch.count - current.left - 1,
            )
        };
        let mut count = 1;
        // Every event is looked at before any is handed out: a bad one must not be among them.
        while let Some(next) = self.current.as_mut().and_then(Current::advance) {
            match next {
                Ok(()) => count += 1,
                Err(error) => {
                    self.bad_event = Some(error);
                    break;
                }
            }
        }
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
            Some(current) if current.left == 0 => current.batch.operation_time,
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
                .map_or(self.after_invalidate, Current::is_at_invalidate),
            gaps: self.progress.gaps,
            last_gap: self.progress.last_gap.clone(),
        }
    }

    /// Whether no event is left to hand out.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let used_up = || self.current.as_ref().is_none_or(Current::is_used_up);
        self.failed || (self.bad_event.is_none() && self.waiting.is_empty() && used_up())
    }

    /// Whether a bad event has ended the stream.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Batches taken up since this was last asked; the machine wants an
    /// [`Input::BatchTaken`](crate::Input::BatchTaken) for each.
    #[must_use]
    pub fn poll_taken(&mut self) -> usize {
        std::mem::take(&mut self.taken)
    }

    /// Steps to the next event.
    fn advance(&mut self) -> Option<Result<(), StreamError>> {
        if self.failed {
            return None;
        }
        if let Some(error) = self.bad_event.take() {
            self.failed = true;
            return Some(Err(error));
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
        if current.event.is_some() {
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
            event: None,
            batch,
        }
    }

    fn advance(&mut self) -> Option<Result<(), StreamError>> {
        let document = match self.rest.next()? {
            Ok(document) => document,
            Err(error) => return Some(Err(self.unreadable(error))),
        };
        if let Err(error) = self.check_token(&document) {
            return Some(Err(error));
        }
        self.left = self.left.saturating_sub(1);
        self.event = Some(document);
        Some(Ok(()))
    }

    /// Every event needs an `_id` that is a document. Servers put it first, where a look at a few
    /// bytes finds it.
    fn check_token(&self, document: &Document) -> Result<(), StreamError> {
        const DOCUMENT_UNDER_ID: &[u8] = b"\x03_id\0";
        if document.as_bytes().get(4..9) == Some(DOCUMENT_UNDER_ID) {
            return Ok(());
        }
        match document.embedded("_id") {
            Ok(Some(_)) => Ok(()),
            Err(DecodeError::Malformed { offset, defect }) => {
                let end = self.batch.events.offset() + self.batch.events.bytes_len();
                let start = end - self.rest.bytes_left() - document.len();
                Err(self.unreadable(ReplyError::Malformed {
                    offset: start + offset,
                    defect,
                }))
            }
            _ => Err(StreamError::MissingResumeToken),
        }
    }

    fn is_used_up(&self) -> bool {
        // One byte, the array's closing zero, stays behind the last element.
        self.rest.bytes_left() <= 1
    }

    /// Behind the last event of a batch that names its end stands that end, behind any other event
    /// its `_id`.
    fn token(&self) -> Option<ResumeToken> {
        let event = self.event.as_ref()?;
        match &self.batch.token {
            Some(token) if self.left == 0 => Some(token.clone()),
            _ => event::token_of(event),
        }
    }

    fn is_at_invalidate(&self) -> bool {
        let event = self
            .event
            .as_ref()
            .map(|event| EventRef::new(event.as_raw()));
        event.and_then(EventRef::operation_type) == Some(OperationType::Invalidate)
    }

    fn event_time(&self) -> Option<Timestamp> {
        EventRef::new(self.event.as_ref()?.as_raw()).cluster_time()
    }

    fn unreadable(&self, error: ReplyError) -> StreamError {
        StreamError::Reply {
            phase: self.batch.phase,
            error,
        }
    }
}
