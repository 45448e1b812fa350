//! What a stream does where the specification leaves it to the application: history that is lost,
//! a watched namespace that is gone, an event that is too large.

use bson::Timestamp;

use crate::ResumeToken;

/// What to do when the oplog no longer reaches back to where the stream stands.
///
/// ```
/// use mongo_change_stream::{HistoryLost, StreamConfig};
///
/// let config = StreamConfig { history_lost: HistoryLost::FromNow, ..StreamConfig::default() };
/// # let _ = config;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HistoryLost {
    /// End with the error, of which
    /// [`is_history_lost`](crate::StreamError::is_history_lost) is true.
    #[default]
    Fail,
    /// Go on with what happens from now on, and report the [`Gap`].
    FromNow,
    /// Go on at this cluster time, and report the [`Gap`]. A time that is itself out of reach ends
    /// the stream with the error.
    FromTime(Timestamp),
}

/// What to do when the server has closed the cursor behind an invalidate event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnInvalidate {
    /// The stream ends; what came before, the invalidate event included, is still read.
    #[default]
    End,
    /// The stream goes on behind the invalidate event, by `startAfter`, with whatever happens under
    /// the same name. Nothing is left out: the drop or rename event and the invalidate event come
    /// first.
    Continue,
}

/// What to do with events larger than a document may be, 16 MiB.
///
/// All but `Fail` put the stage `$changeStreamSplitLargeEvent` behind the pipeline, which servers
/// have since 6.0.9 and 7.0; others refuse the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Oversize {
    /// The server's error ends the stream. With a `$changeStreamSplitLargeEvent` of the caller's
    /// own, fragments are events like others.
    #[default]
    Fail,
    /// The fragments are put together again, and the event comes as if it had never been cut.
    Join {
        /// The most that an event may have, in bytes. While it is put together twice as much is held
        /// in memory. One that has more ends the stream with
        /// [`StreamError::Oversize`](crate::StreamError). Beyond a GiB it counts as a GiB.
        limit: usize,
    },
    /// Such events are left out, each reported as a [`Gap`].
    Skip,
}

/// Events that were left out, and why. It is published when the stream passes it
/// ([`StreamEvent::Gap`](crate::StreamEvent::Gap)), and readable from the position of the stream
/// once the consumer has come to it ([`StreamPosition`](crate::StreamPosition)).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Gap {
    /// Why.
    pub cause: GapCause,
    /// The last place before it: everything up to here was delivered.
    pub from: GapEnd,
    /// The first place behind it: everything from here on is delivered.
    pub to: GapEnd,
}

/// Why events were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapCause {
    /// The oplog no longer had them ([`HistoryLost`]).
    HistoryLost,
    /// One event, too large ([`Oversize::Skip`]).
    Oversize,
}

/// One end of a [`Gap`]. What is not known is absent.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct GapEnd {
    /// A token at that place.
    pub token: Option<ResumeToken>,
    /// The cluster time there.
    pub cluster_time: Option<Timestamp>,
}

impl GapEnd {
    pub(crate) fn new(token: Option<ResumeToken>, time: Option<Timestamp>) -> Self {
        let inside = token.as_ref().and_then(ResumeToken::cluster_time);
        Self {
            token,
            cluster_time: inside.or(time),
        }
    }
}

impl From<ResumeToken> for GapEnd {
    fn from(token: ResumeToken) -> Self {
        Self::new(Some(token), None)
    }
}
