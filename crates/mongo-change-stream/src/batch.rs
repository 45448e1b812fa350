//! A batch on its way from the machine to the reader.

use std::time::Instant;

use bson::Timestamp;
use mongo_wire::{Batch, BatchDocuments, BatchIter, DecodeError, Document, ReplyError};

use crate::{EventRef, Gap, Phase, RawEvent, ResumeToken, StreamError};

/// The events of one reply, as slices of it, with what the reply says about the stream's place.
///
/// An empty batch is news too: it moves the token. Batches are made by the machine and read by
/// [`BatchReader`](crate::BatchReader), which applies the token rules.
#[derive(Debug, Clone)]
pub struct StreamBatch {
    pub(crate) events: Batch,
    /// Events that are in order; whatever stands behind them is not handed out.
    pub(crate) count: usize,
    /// The last of them.
    pub(crate) last: Option<Document>,
    /// What stands behind them, if it is no event.
    pub(crate) error: Option<StreamError>,
    pub(crate) token: Option<ResumeToken>,
    pub(crate) operation_time: Option<Timestamp>,
    pub(crate) received_at: Instant,
    /// Left out before its end; passed when the batch is taken up.
    pub(crate) gaps: Vec<Gap>,
    pub(crate) is_answer: bool,
    /// The server has closed the cursor behind it.
    pub(crate) closes_cursor: bool,
}

impl StreamBatch {
    /// Whether it answers a demand. Only the empty batch of the resume behind a lapse does not: the
    /// consumer waits on.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.is_answer
    }

    /// Events in it; those behind one that is not in order do not count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it only moves the token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes it keeps in memory, give or take the reply around it.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.events.bytes_len()
    }

    /// What was left out before the end of this batch.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The events as borrowed views, without copies.
    #[must_use]
    pub fn events(&self) -> BatchIter<'_> {
        self.events.iter()
    }

    /// `postBatchResumeToken`: the place behind the whole batch.
    #[must_use]
    pub fn post_batch_resume_token(&self) -> Option<&ResumeToken> {
        self.token.as_ref()
    }

    /// `operationTime` of the reply.
    #[must_use]
    pub fn operation_time(&self) -> Option<Timestamp> {
        self.operation_time
    }

    /// When the reply came in.
    #[must_use]
    pub fn received_at(&self) -> Instant {
        self.received_at
    }
}

/// Events handed out together by [`BatchReader::next_batch`](crate::BatchReader::next_batch), each
/// a slice of the one reply they came in, all of them checked.
#[derive(Debug, Clone)]
pub struct EventBatch {
    pub(crate) batch: StreamBatch,
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) token: Option<ResumeToken>,
}

impl EventBatch {
    /// Events in it, at least one.
    #[expect(clippy::len_without_is_empty, reason = "there is always an event")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Bytes of the reply that it keeps in memory.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.batch.bytes_len()
    }

    /// The events, lent: no copy, no allocation, no reference count.
    pub fn events(&self) -> impl Iterator<Item = EventRef<'_>> {
        let events = self.batch.events.iter().skip(self.first).take(self.count);
        // Nothing is lost: each was read once before it was handed out.
        events.filter_map(Result::ok).map(EventRef::new)
    }

    /// The events, each with its own share of the reply.
    pub fn owned_events(&self) -> impl Iterator<Item = RawEvent> + use<> {
        let events = self
            .batch
            .events
            .documents()
            .skip(self.first)
            .take(self.count);
        events.filter_map(Result::ok).map(RawEvent::from)
    }

    /// The place behind the last of these events: save this once all of them are dealt with.
    #[must_use]
    pub fn resume_token(&self) -> Option<&ResumeToken> {
        self.token.as_ref()
    }

    /// `operationTime` of the reply: the server's clock when it answered.
    #[must_use]
    pub fn operation_time(&self) -> Option<Timestamp> {
        self.batch.operation_time
    }

    /// When the reply came in.
    #[must_use]
    pub fn received_at(&self) -> Instant {
        self.batch.received_at
    }
}

/// What one walk over a batch finds: every event is looked at before any is handed out.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Events in order, up to the first that is not.
    pub(crate) count: usize,
    pub(crate) first: Option<Document>,
    pub(crate) last: Option<Document>,
    /// Why the events end before the batch does.
    pub(crate) error: Option<StreamError>,
}

impl Survey {
    pub(crate) fn of(batch: &Batch, phase: Phase) -> Self {
        let mut survey = Self::default();
        let mut events = batch.documents();
        while let Some(event) = events.step() {
            let checked = match event {
                Ok(()) => check_token(&events, phase),
                Err(error) => Err(StreamError::Reply { phase, error }),
            };
            if let Err(error) = checked {
                survey.error = Some(error);
                break;
            }
            survey.count += 1;
            if survey.first.is_none() {
                survey.first = events.share();
            }
        }
        survey.last = match (survey.count, &survey.error) {
            (0, _) => None,
            (_, None) => events.share(),
            // The walk has gone beyond it.
            (count, Some(_)) => batch.documents().nth(count - 1).and_then(Result::ok),
        };
        survey
    }
}

/// Every event needs an `_id` that is a document. Servers put it first, where a look at a few bytes
/// finds it.
fn check_token(events: &BatchDocuments, phase: Phase) -> Result<(), StreamError> {
    const DOCUMENT_UNDER_ID: &[u8] = b"\x03_id\0";
    let event = events.here().unwrap_or_default();
    if event.get(4..9) == Some(DOCUMENT_UNDER_ID) {
        return Ok(());
    }
    match events.share().map(|event| event.embedded("_id")) {
        Some(Ok(Some(_))) => Ok(()),
        Some(Err(DecodeError::Malformed { offset, defect })) => {
            let offset = events.offset() + offset;
            let error = ReplyError::Malformed { offset, defect };
            Err(StreamError::Reply { phase, error })
        }
        _ => Err(StreamError::MissingResumeToken),
    }
}
