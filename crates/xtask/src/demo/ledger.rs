//! Holds the events that arrive against the plan.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::plan::{Kind, Write};

/// What identifies the event of a write: inserts and deletes by their document, which exists once,
/// updates by the number they write.
pub(crate) type Key = (&'static str, Kind, i32);

/// Counts of what arrived.
#[derive(Debug)]
pub(crate) struct Ledger {
    expected: BTreeMap<Key, usize>,
    times_seen: Vec<u32>,
    last: Option<(usize, Instant)>,
    pub(crate) events: u64,
    pub(crate) unknown: u64,
    pub(crate) out_of_order: u64,
    pub(crate) longest_gap: Duration,
}

impl Ledger {
    pub(crate) fn new(plan: &[Write]) -> Self {
        let keyed = plan
            .iter()
            .enumerate()
            .map(|(place, write)| (key(write), place));
        Self {
            expected: keyed.collect(),
            times_seen: vec![0; plan.len()],
            last: None,
            events: 0,
            unknown: 0,
            out_of_order: 0,
            longest_gap: Duration::ZERO,
        }
    }

    /// Takes one event; the place of its write in the plan, if there is such a write.
    pub(crate) fn record(&mut self, seen: Key, at: Instant) -> Option<usize> {
        self.events += 1;
        let Some(place) = self.expected.get(&seen).copied() else {
            self.unknown += 1;
            return None;
        };
        self.times_seen[place] += 1;
        if let Some((last_place, last_at)) = self.last {
            self.longest_gap = self.longest_gap.max(at.duration_since(last_at));
            if place < last_place {
                self.out_of_order += 1;
            }
        }
        self.last = Some((place, at));
        Some(place)
    }

    pub(crate) fn missing(&self) -> usize {
        self.times_seen.iter().filter(|times| **times == 0).count()
    }

    pub(crate) fn repeated(&self) -> u32 {
        self.times_seen
            .iter()
            .map(|times| times.saturating_sub(1))
            .sum()
    }

    /// Whether every write arrived exactly once, in order, and nothing else did.
    pub(crate) fn is_exact(&self) -> bool {
        self.missing() == 0 && self.repeated() == 0 && self.out_of_order == 0 && self.unknown == 0
    }
}

fn key(write: &Write) -> Key {
    let number = if write.kind == Kind::Update {
        write.number
    } else {
        write.id
    };
    (write.collection, write.kind, number)
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    fn played(order: &[usize]) -> Ledger {
        let plan = plan(50, 7);
        let mut ledger = Ledger::new(&plan);
        let now = Instant::now();
        for place in order {
            ledger.record(key(&plan[*place]), now);
        }
        ledger
    }

    #[test]
    fn an_exact_run_is_exact() {
        let order: Vec<usize> = (0..50).collect();
        assert!(played(&order).is_exact());
    }

    #[test]
    fn a_lost_a_repeated_and_a_misplaced_event_are_each_found() {
        let lost: Vec<usize> = (0..49).collect();
        assert_eq!(played(&lost).missing(), 1);

        let repeated: Vec<usize> = (0..50).chain([49]).collect();
        assert_eq!(played(&repeated).repeated(), 1);

        let mut misplaced: Vec<usize> = (0..50).collect();
        misplaced.swap(10, 11);
        assert_eq!(played(&misplaced).out_of_order, 1);
        for order in [lost, repeated, misplaced] {
            assert!(!played(&order).is_exact());
        }
    }

    #[test]
    fn an_event_of_no_write_is_found() {
        let mut ledger = played(&[]);
        assert_eq!(
            ledger.record(("orders", Kind::Insert, 9_999), Instant::now()),
            None
        );
        assert_eq!(ledger.unknown, 1);
    }
}
