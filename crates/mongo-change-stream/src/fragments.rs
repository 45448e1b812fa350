//! Large events in fragments (change streams, "$changeStreamSplitLargeEvent").
//!
//! A group of fragments becomes one event when its last fragment is there. Until then nothing of it
//! is delivered, and the place stays before it: a resume in the middle of a group fetches the whole
//! group again, however a new server cuts it.

use bson::{Timestamp, raw::RawDocument};
use mongo_wire::{Batch, DecodeError, Document, ReplyError};

use crate::{
    EventRef, Gap, GapCause, Oversize, Phase, ResumeToken, SplitEvent, StreamError, token,
};

/// What an event put together may have at most, whatever the caller allows: BSON counts with 32
/// bits, and the batch around the event needs some of them.
const MOST_BYTES: usize = 1 << 30;

/// The group of fragments that has begun.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    group: Option<Group>,
}

#[derive(Debug)]
struct Group {
    /// The fragments so far; none of those that are left out.
    parts: Vec<Document>,
    bytes: usize,
    /// The number of the next fragment.
    next: u32,
    /// The cluster time of the event.
    time: Option<Timestamp>,
}

/// A batch without fragments.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) events: Batch,
    pub(crate) gaps: Vec<Gap>,
    /// The batch ended in the middle of a group, so that its end is no place to stand at.
    pub(crate) is_cut: bool,
    /// The cluster time of the event that is not whole yet.
    pub(crate) cut_at: Option<Timestamp>,
    /// The place behind the last event that is whole or was left out, where that is not the end of
    /// the reply.
    pub(crate) end: Option<ResumeToken>,
    /// Ends the stream behind these events.
    pub(crate) error: Option<StreamError>,
}

impl Fragments {
    /// Forgets a group that will not be finished.
    pub(crate) fn clear(&mut self) {
        self.group = None;
    }

    /// Takes in a batch that starts behind `before`. A batch without fragments goes through as it
    /// is; one that has some is copied.
    pub(crate) fn take_in(
        &mut self,
        events: Batch,
        policy: Oversize,
        before: Option<&ResumeToken>,
        phase: Phase,
    ) -> Whole {
        let is_fragment = |event: &RawDocument| EventRef::new(event).split_event().is_some();
        let is_plain = policy == Oversize::Fail
            || (self.group.is_none() && !events.iter().flatten().any(is_fragment));
        let mut whole = Whole {
            events,
            gaps: Vec::new(),
            is_cut: false,
            cut_at: None,
            end: None,
            error: None,
        };
        if is_plain {
            return whole;
        }
        let mut complete = Vec::new();
        let mut last = before.cloned();
        for event in whole.events.documents() {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    whole.error = Some(StreamError::Reply { phase, error });
                    break;
                }
            };
            let Some(split) = EventRef::new(event.as_raw()).split_event() else {
                last = id_of(&event);
                complete.push(event);
                continue;
            };
            match self.add(event, split, (policy, phase)) {
                Ok(None) => {}
                Ok(Some(Finished::Joined(event))) => {
                    last = id_of(&event);
                    complete.push(event);
                }
                Ok(Some(Finished::Skipped(end))) => {
                    whole.gaps.push(Gap {
                        cause: GapCause::Oversize,
                        from: last.clone().map(Into::into).unwrap_or_default(),
                        to: end.clone().map(Into::into).unwrap_or_default(),
                    });
                    last = end;
                }
                Err(error) => {
                    whole.error = Some(error);
                    break;
                }
            }
        }
        whole.is_cut = self.group.is_some();
        whole.cut_at = self.group.as_ref().and_then(|group| group.time);
        whole.end = last.filter(|_| whole.is_cut || whole.error.is_some());
        whole.events = Batch::from_documents(&complete);
        whole
    }

    fn add(
        &mut self,
        fragment: Document,
        split: SplitEvent,
        (policy, phase): (Oversize, Phase),
    ) -> Result<Option<Finished>, StreamError> {
        let group = self.group.get_or_insert_with(|| Group::of(&fragment));
        let is_last = split.fragment == split.of;
        let Oversize::Join { limit } = policy else {
            let finished = is_last.then(|| Finished::Skipped(id_of(&fragment)));
            if is_last {
                self.group = None;
            }
            return Ok(finished);
        };
        if split.fragment != group.next {
            return Err(StreamError::Fragment {
                expected: group.next,
                found: split.fragment,
                of: split.of,
            });
        }
        group.next += 1;
        group.bytes += fragment.len();
        group.parts.push(fragment);
        let limit = limit.min(MOST_BYTES);
        if group.bytes > limit {
            return Err(StreamError::Oversize { limit });
        }
        if !is_last {
            return Ok(None);
        }
        let parts = self.group.take().map(|group| group.parts);
        match join(&parts.unwrap_or_default()) {
            Ok(event) => Ok(Some(Finished::Joined(event))),
            // Where in its reply a fragment stood is no longer known.
            Err(DecodeError::Malformed { offset, defect }) => {
                let error = ReplyError::Malformed { offset, defect };
                Err(StreamError::Reply { phase, error })
            }
            Err(_) => Err(StreamError::MissingResumeToken),
        }
    }
}

enum Finished {
    Joined(Document),
    /// With its end.
    Skipped(Option<ResumeToken>),
}

impl Group {
    /// The group that begins with this fragment.
    fn of(fragment: &Document) -> Self {
        let event = EventRef::new(fragment.as_raw());
        let inside = id_of(fragment).and_then(|token| token.cluster_time());
        Self {
            parts: Vec::new(),
            bytes: 0,
            next: 1,
            time: inside.or_else(|| event.cluster_time()),
        }
    }
}

/// The event as it was before it was cut: each fragment has fields of its own, and the last one the
/// token behind all of them.
fn join(parts: &[Document]) -> Result<Document, DecodeError> {
    let bytes = parts.iter().map(Document::len).sum();
    let mut event = Vec::with_capacity(bytes);
    event.extend([0; 4]);
    for piece in parts.last().into_iter().flat_map(Document::pieces) {
        let (key, piece) = piece?;
        if key == b"_id" {
            event.extend(piece);
        }
    }
    for piece in parts.iter().flat_map(Document::pieces) {
        let (key, piece) = piece?;
        if ![&b"_id"[..], b"splitEvent"].contains(&key) {
            event.extend(piece);
        }
    }
    event.push(0);
    let length = i32::try_from(event.len()).expect("the limit of a group is below 31 bits");
    event[..4].copy_from_slice(&length.to_le_bytes());
    Document::from_bytes(event)
}

fn id_of(event: &Document) -> Option<ResumeToken> {
    EventRef::new(event.as_raw()).id().map(token::copy)
}
