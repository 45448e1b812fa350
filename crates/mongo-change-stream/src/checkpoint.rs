//! Checkpoints: how far an application has dealt with a stream's events, and what stream it was.

use std::collections::VecDeque;

use bson::raw::{RawDocument, RawDocumentBuf};
use serde::{Deserialize, Serialize};

use crate::{ResumePoint, ResumeToken, WatchTarget};

/// The form in which checkpoints are written; a later one may be another.
const FORMAT: i32 = 1;

/// Follows which events have been dealt with, in whatever order, and says where a stream may be
/// started again so that none is left out: behind the last event that has been dealt with together
/// with all before it.
///
/// It holds one entry for each event that is open, or waits for one that is; whoever wants a bound
/// looks at [`open`](Self::open) before taking the next event.
///
/// ```
/// # use mongo_change_stream::{CheckpointTracker, ResumePoint, ResumeToken};
/// # fn point(n: i32) -> ResumePoint {
/// #     ResumePoint { token: bson::rawdoc! { "_data": n }.into(), after_invalidate: false }
/// # }
/// let mut tracker = CheckpointTracker::new(None);
/// let first = tracker.begin(&point(1)); // the place behind the event that was handed out
/// let second = tracker.begin(&point(2));
/// assert_eq!(tracker.acknowledge(second), None); // the first is still open
/// assert_eq!(tracker.acknowledge(first), Some(&point(2))); // save this
/// ```
#[derive(Debug, Clone, Default)]
pub struct CheckpointTracker {
    mark: Option<ResumePoint>,
    /// The ticket of the first entry.
    first: u64,
    entries: VecDeque<Entry>,
    open: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    /// The place behind the event.
    behind: ResumePoint,
    is_done: bool,
}

/// An event that is being dealt with; see [`CheckpointTracker::begin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl CheckpointTracker {
    /// A tracker of a stream that starts at `start`, if that is a saved place.
    #[must_use]
    pub fn new(start: Option<ResumePoint>) -> Self {
        Self {
            mark: start,
            ..Self::default()
        }
    }

    /// An event, or a batch, was taken from the stream; `behind` is the stream's place afterwards.
    pub fn begin(&mut self, behind: &ResumePoint) -> Ticket {
        let ticket = Ticket(self.first + u64::try_from(self.entries.len()).unwrap_or(u64::MAX));
        self.entries.push_back(Entry {
            behind: behind.compact(),
            is_done: false,
        });
        self.open += 1;
        ticket
    }

    /// The stream's place has moved on though nothing was handed out. Returns the place to save,
    /// if that has moved, too.
    pub fn moved(&mut self, place: &ResumePoint) -> Option<&ResumePoint> {
        match self.entries.back_mut() {
            // Once everything before it is dealt with, so is what was passed over.
            Some(last) => {
                last.behind = place.compact();
                None
            }
            None if self.mark.as_ref() == Some(place) => None,
            None => {
                self.mark = Some(place.compact());
                self.mark.as_ref()
            }
        }
    }

    /// An event has been dealt with. Returns the place to save, if that has moved. Saying it twice
    /// does no harm.
    pub fn acknowledge(&mut self, ticket: Ticket) -> Option<&ResumePoint> {
        let index = usize::try_from(ticket.0.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get_mut(index)?;
        if std::mem::replace(&mut entry.is_done, true) {
            return None;
        }
        self.open -= 1;
        let mut moved = false;
        while self.entries.front().is_some_and(|entry| entry.is_done) {
            self.mark = self.entries.pop_front().map(|done| done.behind);
            self.first += 1;
            moved = true;
        }
        self.mark.as_ref().filter(|_| moved)
    }

    /// The low-water mark: everything before it has been dealt with. `None` if nothing has, of a
    /// stream that does not start at a saved place.
    #[must_use]
    pub fn place(&self) -> Option<&ResumePoint> {
        self.mark.as_ref()
    }

    /// Events that have begun and are not acknowledged.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }
}

/// What a token belongs to. The token of one stream means nothing to another: it may be refused, or
/// be taken and leave out events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StreamIdentity {
    /// The deployment's own id, a replica set's or a sharded cluster's, as far as it may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// The replica set's name, as far as it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_set: Option<String>,
    /// What is watched, as [`WatchTarget`] is displayed.
    pub target: String,
    /// A hash of the pipeline.
    pub pipeline: String,
}

/// A saved token is not this stream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint is of another {what}: it was {saved}, now it is {current}")]
#[non_exhaustive]
pub struct IdentityMismatch {
    /// What differs.
    pub what: &'static str,
    /// As it was.
    pub saved: String,
    /// As it is.
    pub current: String,
}

impl StreamIdentity {
    /// The identity of a stream of this target and pipeline, of a deployment that is not known.
    #[must_use]
    pub fn new(target: &WatchTarget, pipeline: &[RawDocumentBuf]) -> Self {
        Self {
            deployment: None,
            replica_set: None,
            target: target.to_string(),
            pipeline: hash(pipeline),
        }
    }

    /// Checks that what was saved under the identity `saved` belongs to this stream. What is known
    /// to one side only is not compared.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, saved: &Self) -> Result<(), IdentityMismatch> {
        let known = |value: &str| Some(value.to_owned());
        let parts = [
            (
                "deployment",
                saved.deployment.clone(),
                self.deployment.clone(),
            ),
            (
                "replica set",
                saved.replica_set.clone(),
                self.replica_set.clone(),
            ),
            ("target", known(&saved.target), known(&self.target)),
            ("pipeline", known(&saved.pipeline), known(&self.pipeline)),
        ];
        for (what, saved, current) in parts {
            if let (Some(saved), Some(current)) = (saved, current)
                && saved != current
            {
                return Err(IdentityMismatch {
                    what,
                    saved,
                    current,
                });
            }
        }
        Ok(())
    }
}

/// FNV-1a: it has to tell a pipeline from an earlier version of itself, not from a forgery.
fn hash(pipeline: &[RawDocumentBuf]) -> String {
    let bytes = pipeline.iter().flat_map(|stage| stage.as_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("fnv1a:{hash:016x}")
}

/// A place in a stream together with what stream it is: what is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// What stream it is.
    pub identity: StreamIdentity,
    /// Where to start again.
    pub point: ResumePoint,
}

/// A document is no checkpoint.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It does not have the fields of one.
    #[error("this is no checkpoint: {0}")]
    Malformed(String),
    /// It was written in a form that this version does not know.
    #[error("the checkpoint has format {found}, this version knows {FORMAT}")]
    Format {
        /// The number of the form.
        found: i32,
    },
}

/// A checkpoint as a document.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    format: i32,
    #[serde(flatten)]
    identity: StreamIdentity,
    token: ResumeToken,
    start_after: bool,
}

impl Checkpoint {
    /// The checkpoint as a document: `format`, `deployment`, `replicaSet`, `target`, `pipeline`,
    /// `token`, `startAfter`.
    #[must_use]
    pub fn to_document(&self) -> RawDocumentBuf {
        let written = Written {
            format: FORMAT,
            identity: self.identity.clone(),
            token: self.point.token.clone(),
            start_after: self.point.after_invalidate,
        };
        bson::serialize_to_raw_document_buf(&written).expect("strings and a document are BSON")
    }

    /// Reads what [`to_document`](Self::to_document) has written; further fields are passed over.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_document(document: &RawDocument) -> Result<Self, CheckpointError> {
        match document.get_i32("format") {
            Ok(FORMAT) => {}
            Ok(found) => return Err(CheckpointError::Format { found }),
            Err(error) => return Err(CheckpointError::Malformed(error.to_string())),
        }
        let written: Written = bson::deserialize_from_slice(document.as_bytes())
            .map_err(|error| CheckpointError::Malformed(error.to_string()))?;
        Ok(Self {
            identity: written.identity,
            point: ResumePoint {
                token: written.token,
                after_invalidate: written.start_after,
            },
        })
    }
}
