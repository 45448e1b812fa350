//! A batch on its way from the machine to the reader.

use std::time::Instant;

use bson::{Timestamp, raw::RawDocument};
use mongo_wire::{Batch, BatchIter, ReplyError};

use crate::{Phase, ResumeToken};

/// The events of one reply, as slices of it, with what the reply says about the stream's place.
///
/// An empty batch is news too: it moves the token. Batches are made by the machine and read by
/// [`BatchReader`](crate::BatchReader), which applies the token rules.
#[derive(Debug, Clone)]
pub struct StreamBatch {
    pub(crate) phase: Phase,
    pub(crate) events: Batch,
    pub(crate) count: usize,
    pub(crate) token: Option<ResumeToken>,
    pub(crate) operation_time: Option<Timestamp>,
    pub(crate) received_at: Instant,
}

impl StreamBatch {
    /// Events in it; those behind a malformed element do not count.
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

/// What one walk over a batch's outer elements finds.
#[derive(Debug, Default)]
pub(crate) struct Survey<'a> {
    pub(crate) count: usize,
    pub(crate) last: Option<&'a RawDocument>,
    pub(crate) error: Option<ReplyError>,
}

impl<'a> Survey<'a> {
    pub(crate) fn of(batch: &'a Batch) -> Self {
        let mut survey = Self::default();
        for event in batch {
            match event {
                Ok(event) => {
                    survey.count += 1;
                    survey.last = Some(event);
                }
                Err(error) => survey.error = Some(error),
            }
        }
        survey
    }
}
