//! What a machine may be told beyond the stream's own options.

use std::time::Duration;

use crate::{HistoryLost, OnInvalidate, Oversize};

/// Tuning of a [`ChangeStreamMachine`](crate::ChangeStreamMachine); the default suits most streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// How far the stream reads ahead; `None` fetches only what the consumer asks for.
    pub prefetch: Option<Prefetch>,
    /// How resumes are paced.
    pub backoff: BackoffConfig,
    /// How long the server may take to answer an `aggregate`; it may have to look through a good
    /// part of the oplog. Doubled like the margin below.
    pub aggregate_limit: Duration,
    /// Added to the await time to give the deadline of a `getMore`. Doubled with every `getMore`
    /// in a row that missed its deadline, so that a slow server is not asked the same for ever.
    pub get_more_margin: Duration,
    /// How long a closing stream waits for an `aggregate` under way, whose cursor it has to kill.
    pub close_grace: Duration,
    /// What to do when the oplog no longer reaches back to where the stream stands.
    pub history_lost: HistoryLost,
    /// What to do behind an invalidate event.
    pub invalidate: OnInvalidate,
    /// What to do with events that are too large.
    pub oversize: Oversize,
    /// Exhaust mode: the server sends batch after batch unasked, which saves a round trip for each.
    /// Where a server does not, the stream asks as usual. The window holds all the same: while it
    /// is full nothing is read. A stream that is given up on the way costs its connection.
    pub exhaust: bool,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            prefetch: Some(Prefetch::default()),
            backoff: BackoffConfig::default(),
            aggregate_limit: Duration::from_secs(60),
            get_more_margin: Duration::from_secs(20),
            close_grace: Duration::from_secs(5),
            history_lost: HistoryLost::default(),
            invalidate: OnInvalidate::default(),
            oversize: Oversize::default(),
            exhaust: false,
        }
    }
}

/// The window of batches that were delivered but not yet taken up by the consumer. A `getMore` is
/// ordered while the window has room, so the most that is in memory is the batch being consumed,
/// a full window, and one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// Batches that may wait; zero counts as one.
    pub batches: usize,
    /// Bytes of waiting batches from which on nothing more is fetched; zero counts as one.
    pub bytes: usize,
}

impl Prefetch {
    /// A window of so many batches and bytes.
    #[must_use]
    pub fn new(batches: usize, bytes: usize) -> Self {
        Self { batches, bytes }
    }
}

/// Two batches, 16 MiB.
impl Default for Prefetch {
    fn default() -> Self {
        Self::new(2, 16 * 1024 * 1024)
    }
}

/// The pace of resumes that bring no progress: the first at once, then after `initial`, doubled
/// each time up to `maximum`, each wait lengthened by up to a half at random.
///
/// Progress is an event, or a newer token in the reply to a `getMore`, or a cursor that lived
/// longer than `maximum`. A token in the reply to an `aggregate` is none: a server that fails every
/// `getMore` hands out a newer one with each resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffConfig {
    /// The first wait.
    pub initial: Duration,
    /// The longest wait, before the random part.
    pub maximum: Duration,
    /// How long failing resume aggregates in a row are repeated before the stream ends with the
    /// last error. Zero is the specification to the letter: the first such error ends the stream.
    pub give_up_after: Duration,
}

/// 200 ms, 5 s, five minutes.
impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(200),
            maximum: Duration::from_secs(5),
            give_up_after: Duration::from_secs(300),
        }
    }
}
