//! Large events in fragments (change streams, "$changeStreamSplitLargeEvent").
//!
//! A group of fragments becomes one event when its last fragment is there. Until then nothing of it
//! is delivered, and the place stays before it: a resume in the middle of a group fetches the whole
//! group again, however a new server cuts it.

use bson::raw::{RawDocument, RawDocumentBuf};
use mongo_wire::{Batch, Document};

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
}

/// A batch without fragments.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) events: Batch,
    pub(crate) gaps: Vec<Gap>,
    /// The batch ended in the middle of a group, so that its end is no place to stand at.
    pub(crate) is_cut: bool,
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
            match self.add(event, split, policy) {
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
        whole.events = Batch::from_documents(complete.iter().map(Document::as_raw));
        whole
    }

    fn add(
        &mut self,
        fragment: Document,
        split: SplitEvent,
        policy: Oversize,
    ) -> Result<Option<Finished>, StreamError> {
        let group = self.group.get_or_insert_default();
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
        let event = join(&parts.unwrap_or_default());
        Ok(Some(Finished::Joined(Document::from(event))))
    }
}

enum Finished {
    Joined(Document),
    /// With its end.
    Skipped(Option<ResumeToken>),
}

impl Default for Group {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            bytes: 0,
            next: 1,
        }
    }
}

/// The event as it was before it was cut: each fragment has fields of its own, and the last one the
/// token behind all of them.
fn join(parts: &[Document]) -> RawDocumentBuf {
    let mut event = RawDocumentBuf::new();
    if let Some(Ok(Some(id))) = parts.last().map(|last| last.as_raw().get("_id")) {
        event.append(bson::cstr!("_id"), id);
    }
    let elements = parts.iter().flat_map(|part| part.as_raw().iter());
    for (key, value) in elements.flatten() {
        if !["_id", "splitEvent"].contains(&key.as_str()) {
            event.append(key, value);
        }
    }
    event
}

fn id_of(event: &Document) -> Option<ResumeToken> {
    EventRef::new(event.as_raw()).id().map(token::copy)
}
