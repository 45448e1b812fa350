//! What one stream has delivered, held against the oplog and against itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::change::{Change, Operation, Record, Scope};
use crate::workload::{Ledger, Pulse};

/// How many broken chains are kept.
const KEPT: usize = 20;

/// The book of one reader, which the judge and the striker look into.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    name: &'static str,
    scope: Scope,
    pages: Arc<Mutex<Pages>>,
}

#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) ledger: Ledger<Record>,
    pub(crate) pulse: Pulse,
    /// The last version of each document, by collection.
    chains: HashMap<String, HashMap<i64, i64>>,
    /// Documents whose versions do not follow one another.
    broken: Vec<String>,
    /// A strike that no event of a later write has answered yet.
    strike: Option<Strike>,
    recovery: Option<Duration>,
    pub(crate) resumes: u64,
    /// Calls given up, or streams dropped.
    pub(crate) given_up: u64,
}

/// When the primary was struck, by either clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    pub(crate) at: Instant,
    /// In microseconds since the start, as writers note it.
    pub(crate) sent: i64,
}

impl Book {
    pub(crate) fn new(name: &'static str, scope: Scope) -> Self {
        Self {
            name,
            scope,
            pages: Arc::default(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one event; returns whether it is the last.
    ///
    /// # Errors
    /// It is from nobody here.
    pub(crate) fn enter(&self, change: &Change) -> anyhow::Result<bool> {
        let now = Instant::now();
        let record = change.record()?;
        let is_last = self.scope.is_last(&record);
        let mut pages = self.pages();
        pages.pulse.beat(now);
        pages.follow(&record, change);
        pages.ledger.arrive(record);
        if let (Some(strike), Some(state)) = (pages.strike, change.state())
            && state.sent > strike.sent
        {
            pages.strike = None;
            pages.recovery = Some(now.saturating_duration_since(strike.at));
        }
        Ok(is_last)
    }

    /// The oplog has this.
    pub(crate) fn expect(&self, record: &Record) {
        if self.scope.sees(record) {
            let mut pages = self.pages();
            pages.ledger.expect(record.clone());
            if self.scope.ends_with(record) {
                pages.ledger.expect(record.invalidate());
            }
        }
    }

    /// Nothing more is in the oplog, and nothing more arrives.
    pub(crate) fn finish(&self) {
        self.pages().ledger.finish();
    }

    /// The next event of a write that is sent after this is waited for.
    pub(crate) fn struck(&self, strike: Strike) {
        let mut pages = self.pages();
        (pages.strike, pages.recovery) = (Some(strike), None);
    }

    /// How long it took until that event was there.
    pub(crate) fn recovery(&self) -> Option<Duration> {
        self.pages().recovery
    }

    /// What is wrong, in words; nothing, if nothing is.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let pages = self.pages();
        let deviations = pages.ledger.deviations().iter();
        let deviations = deviations.map(ToString::to_string);
        let all = deviations.chain(pages.broken.iter().cloned());
        all.map(|text| format!("{}: {text}", self.name)).collect()
    }
}

impl Pages {
    /// Each document is inserted once, and each update is the one behind the last.
    fn follow(&mut self, record: &Record, change: &Change) {
        let Record { collection, id, .. } = record;
        let found = change.state().map(|state| state.version);
        let chain = self.chains.entry(collection.clone()).or_default();
        let known = match record.operation {
            Operation::Insert | Operation::Update => {
                found.and_then(|version| chain.insert(*id, version))
            }
            Operation::Delete => chain.remove(id),
            Operation::Drop | Operation::Rename | Operation::Invalidate => {
                self.chains.remove(collection);
                return;
            }
        };
        let is_next = match record.operation {
            Operation::Insert => known.is_none() && found == Some(0),
            Operation::Update => known.is_some() && found == known.map(|known| known + 1),
            _ => known.is_some(),
        };
        if !is_next && self.broken.len() < KEPT {
            self.broken.push(format!(
                "{record:?} has version {found:?} behind version {known:?}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, Timestamp, doc};

    use super::*;

    fn change(time: u32, operation: &str, id: i64, version: i64) -> Change {
        let state = doc! { "version": version, "sent": i64::from(time) };
        let mut event = doc! {
            "operationType": operation,
            "clusterTime": Timestamp { time, increment: 1 },
            "ns": { "db": "soak", "coll": "stock" },
            "documentKey": { "_id": id },
        };
        match operation {
            "insert" => event.insert("fullDocument", state),
            "update" => event.insert("updateDescription", doc! { "updatedFields": state }),
            _ => None,
        };
        from(event)
    }

    fn from(event: Document) -> Change {
        bson::deserialize_from_document(event).unwrap()
    }

    /// What is wrong with these events in the eyes of a judge who expects those that are marked.
    fn judged(events: &[(bool, Change)]) -> Vec<String> {
        let book = Book::new("stock", Scope::Collection("stock"));
        for (is_true, event) in events {
            if *is_true {
                book.expect(&event.record().unwrap());
            }
            assert!(!book.enter(event).unwrap());
        }
        book.finish();
        book.complaints()
    }

    #[test]
    fn a_document_from_its_insert_to_its_delete_is_as_it_should_be() {
        let events = [
            (true, change(1, "insert", 7, 0)),
            (true, change(2, "update", 7, 1)),
            (true, change(3, "update", 7, 2)),
            (true, change(4, "delete", 7, 0)),
        ];
        assert_eq!(judged(&events), [""; 0]);
    }

    #[test]
    fn a_repeated_event_breaks_the_chain_and_deviates_from_the_oplog() {
        let events = [
            (true, change(1, "insert", 7, 0)),
            (true, change(2, "update", 7, 1)),
            (false, change(2, "update", 7, 1)),
        ];
        let complaints = judged(&events);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].starts_with("stock: repeated: Record"));
        assert!(complaints[1].ends_with("has version Some(1) behind version Some(1)"));
    }

    #[test]
    fn a_version_that_is_left_out_breaks_the_chain() {
        let events = [
            (true, change(1, "insert", 7, 0)),
            (true, change(3, "update", 7, 2)),
        ];
        let complaints = judged(&events);
        assert!(complaints[0].ends_with("has version Some(2) behind version Some(0)"));
        let unborn = [(true, change(4, "delete", 8, 0))];
        assert_eq!(judged(&unborn).len(), 1);
    }

    #[test]
    fn an_event_behind_a_strike_ends_the_recovery() {
        let book = Book::new("all", Scope::Cluster);
        let at = Instant::now();
        book.struck(Strike { at, sent: 10 });
        book.enter(&change(10, "insert", 1, 0)).unwrap();
        assert_eq!(book.recovery(), None, "sent before the strike");
        book.enter(&change(11, "insert", 2, 0)).unwrap();
        assert!(book.recovery().is_some());
    }
}
