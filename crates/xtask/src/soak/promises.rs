//! What the set has promised by acknowledging it, held against what its oplog has.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::change::{Operation, Record};

/// A change to a document, in which collection.
type Key = (String, i64, Operation);

/// Acknowledged writes that the oplog does not have yet, and the other way round.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many more were acknowledged than were found.
    balance: HashMap<Key, i64>,
    /// Those that may have been done or not.
    open: HashMap<Key, i64>,
    made: u64,
}

impl Promises {
    /// The set has acknowledged these.
    pub(crate) fn make(&self, keys: impl IntoIterator<Item = Key>) {
        let mut state = self.lock();
        for key in keys {
            state.made += 1;
            state.add(&key, 1);
        }
    }

    /// These did not get through in time.
    pub(crate) fn leave_open(&self, keys: impl IntoIterator<Item = Key>) {
        let mut state = self.lock();
        for key in keys {
            *state.open.entry(key).or_default() += 1;
        }
    }

    /// The oplog has this.
    pub(crate) fn kept(&self, record: &Record) {
        let key = (record.collection.clone(), record.id, record.operation);
        self.lock().add(&key, -1);
    }

    /// How many documents were written and acknowledged.
    pub(crate) fn made(&self) -> u64 {
        self.lock().made
    }

    /// Writes that may have been done or not.
    pub(crate) fn left_open(&self) -> usize {
        self.lock().open.len()
    }

    /// What is in one place only, once both are complete.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let state = self.lock();
        let wrong = state.balance.iter().filter_map(|(key, count)| {
            let open = state.open.get(key).copied().unwrap_or_default();
            match *count {
                lost @ 1.. => Some(format!("acknowledged, not in the oplog: {lost} x {key:?}")),
                extra if -extra > open => Some(format!(
                    "in the oplog, not acknowledged: {} x {key:?}",
                    -extra
                )),
                _ => None,
            }
        });
        wrong.collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: &Key, count: i64) {
        let balance = self.balance.entry(key.clone()).or_default();
        *balance += count;
        if *balance == 0 {
            self.balance.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: i64) -> Record {
        Record {
            time: (1, 1),
            operation: Operation::Update,
            collection: "stock".into(),
            id,
        }
    }

    fn key(id: i64) -> Key {
        ("stock".into(), id, Operation::Update)
    }

    #[test]
    fn promises_are_kept_once_each_in_whatever_order_one_hears_of_it() {
        let promises = Promises::default();
        promises.make([key(1), key(1), key(2)]);
        for id in [3, 1, 2, 1] {
            promises.kept(&record(id));
        }
        promises.make([key(3)]);
        assert_eq!(promises.complaints(), [""; 0]);
        assert_eq!(promises.made(), 4);
    }

    #[test]
    fn a_broken_promise_and_a_write_done_twice_are_found() {
        let promises = Promises::default();
        promises.make([key(1), key(2)]);
        promises.kept(&record(2));
        promises.kept(&record(2));
        let mut complaints = promises.complaints();
        complaints.sort();
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].starts_with("acknowledged, not in the oplog"));
        assert!(complaints[1].starts_with("in the oplog, not acknowledged"));
        // Whether a write that was given up is there or not is nobody's fault.
        promises.leave_open([key(2), key(3)]);
        assert_eq!(promises.complaints().len(), 1);
    }
}
