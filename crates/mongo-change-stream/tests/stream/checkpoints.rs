//! Acknowledgements out of order, and what a checkpoint belongs to.

use bson::{Bson, Document, doc, raw::RawDocumentBuf};
use mongo_change_stream::{
    Checkpoint, CheckpointError, CheckpointTracker, ResumePoint, StreamIdentity, Ticket,
    WatchTarget,
};
use proptest::{collection::vec, prelude::*};

use crate::harness::{collection, token};

fn point(place: usize) -> ResumePoint {
    ResumePoint {
        token: token(&place.to_string()),
        after_invalidate: place.is_multiple_of(7),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Moved,
    /// One of the tickets so far, open or not.
    Acknowledge(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Begin),
        1 => Just(Step::Moved),
        5 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
    ]
}

/// All events there ever were: the place behind each, and whether it is done.
#[derive(Default)]
struct Model {
    start: Option<usize>,
    events: Vec<(usize, bool)>,
}

impl Model {
    /// Everything before the first event that is open.
    fn mark(&self) -> Option<usize> {
        let done = self.events.iter().take_while(|(_, is_done)| *is_done);
        done.map(|(place, _)| *place).last().or(self.start)
    }

    fn open(&self) -> usize {
        self.events.iter().filter(|(_, is_done)| !is_done).count()
    }

    fn moved(&mut self, place: usize) {
        let all_done = self.open() == 0;
        match self.events.last_mut() {
            // Done or not, what follows the last event without an event belongs to it.
            Some((behind, _)) => *behind = place,
            None => self.start = Some(place),
        }
        debug_assert!(!all_done || self.mark() == Some(place));
    }
}

proptest! {
    #[test]
    fn the_mark_is_behind_the_longest_run_of_acknowledged_events(
        steps in vec(step(), 0..200),
        start in proptest::option::of(Just(0_usize)),
    ) {
        let mut model = Model { start, ..Model::default() };
        let mut tracker = CheckpointTracker::new(start.map(point));
        let mut tickets: Vec<Ticket> = Vec::new();
        for (place, step) in (1..).zip(&steps) {
            let before = model.mark();
            let told = match step {
                Step::Begin => {
                    tickets.push(tracker.begin(&point(place)));
                    model.events.push((place, false));
                    None
                }
                Step::Moved => {
                    model.moved(place);
                    tracker.moved(&point(place)).cloned()
                }
                Step::Acknowledge(_) if tickets.is_empty() => None,
                Step::Acknowledge(index) => {
                    let index = index.index(tickets.len());
                    model.events[index].1 = true;
                    tracker.acknowledge(tickets[index]).cloned()
                }
            };
            let now = model.mark();
            prop_assert_eq!(tracker.place().cloned(), now.map(point));
            prop_assert_eq!(told, now.filter(|_| now != before).map(point));
            prop_assert_eq!(tracker.open(), model.open());
        }
    }
}

fn pipeline(stages: &[Document]) -> Vec<RawDocumentBuf> {
    stages
        .iter()
        .map(|stage| stage.try_into().unwrap())
        .collect()
}

fn identity(target: &WatchTarget, stages: &[Document], deployment: Option<&str>) -> StreamIdentity {
    let mut identity = StreamIdentity::new(target, &pipeline(stages));
    identity.deployment = deployment.map(str::to_owned);
    identity.replica_set = deployment.map(|_| "rs0".to_owned());
    identity
}

#[test]
fn a_checkpoint_is_for_one_stream_only() {
    let stage = doc! { "$match": { "operationType": "insert" } };
    let other_stage = doc! { "$match": { "operationType": "update" } };
    let database = WatchTarget::Database("shop".into());
    let saved = identity(&collection(), std::slice::from_ref(&stage), Some("a"));
    for (current, differs) in [
        (saved.clone(), None),
        (
            identity(&collection(), std::slice::from_ref(&stage), None),
            None,
        ),
        (
            identity(&collection(), std::slice::from_ref(&stage), Some("b")),
            Some("deployment"),
        ),
        (identity(&database, &[stage], Some("a")), Some("target")),
        (
            identity(&collection(), &[other_stage], Some("a")),
            Some("pipeline"),
        ),
        (identity(&collection(), &[], Some("a")), Some("pipeline")),
    ] {
        let found = current.check(&saved).err();
        assert_eq!(
            found.as_ref().map(|mismatch| mismatch.what),
            differs,
            "{found:?}"
        );
    }
}

#[test]
fn a_checkpoint_survives_being_written() {
    for deployment in [None, Some("65f0")] {
        for after_invalidate in [false, true] {
            let point = ResumePoint {
                token: token("t"),
                after_invalidate,
            };
            let identity = identity(&collection(), &[], deployment);
            let checkpoint = Checkpoint { identity, point };
            let document = checkpoint.to_document();
            assert_eq!(Checkpoint::from_document(&document).unwrap(), checkpoint);
            // What a store adds is passed over.
            let mut more = Document::try_from(&*document).unwrap();
            more.insert("_id", "name");
            let more = RawDocumentBuf::try_from(&more).unwrap();
            assert_eq!(Checkpoint::from_document(&more).unwrap(), checkpoint);
        }
    }
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let identity = identity(&collection(), &[], None);
    let point = ResumePoint {
        token: token("t"),
        after_invalidate: false,
    };
    let written = Checkpoint { identity, point }.to_document();
    let written = Document::try_from(&*written).unwrap();
    for (key, value) in [
        ("format", None),
        ("format", Some(Bson::from(2))),
        ("format", Some("1".into())),
        ("token", None),
        ("token", Some(1.into())),
        ("target", None),
        ("pipeline", Some(1.into())),
        ("startAfter", None),
    ] {
        let mut changed = written.clone();
        match value.clone() {
            Some(value) => changed.insert(key, value),
            None => changed.remove(key),
        };
        let changed = RawDocumentBuf::try_from(&changed).unwrap();
        let error = Checkpoint::from_document(&changed).unwrap_err();
        let is_format = matches!(error, CheckpointError::Format { found: 2 });
        assert_eq!(is_format, value == Some(2.into()), "{key}: {error}");
    }
}
