//! Holds what arrived against what should have.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

/// How many of what arrived last are remembered, to tell a repetition from a stranger.
const REMEMBERED: usize = 10_000;

/// How many deviations are kept with their neighbours; all are counted.
const KEPT: usize = 20;

/// What is expected and what arrived, each in ascending order as long as nothing is wrong. Either
/// may be ahead of the other; where both are known they are compared and forgotten.
#[derive(Debug)]
pub(crate) struct Ledger<T> {
    expected: VecDeque<T>,
    arrived: VecDeque<T>,
    passed: VecDeque<T>,
    missing: BTreeSet<T>,
    repeated: u64,
    out_of_order: u64,
    unknown: u64,
    deviations: Vec<Deviation<T>>,
}

/// Something that is not as it should be, between what arrived before it and what comes next.
#[derive(Debug)]
pub(crate) struct Deviation<T> {
    kind: &'static str,
    what: T,
    before: Option<T>,
    after: Option<T>,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self {
            expected: VecDeque::new(),
            arrived: VecDeque::new(),
            passed: VecDeque::new(),
            missing: BTreeSet::new(),
            repeated: 0,
            out_of_order: 0,
            unknown: 0,
            deviations: Vec::new(),
        }
    }
}

impl<T: Ord + Clone> Ledger<T> {
    /// This should arrive, behind what was expected before.
    pub(crate) fn expect(&mut self, item: T) {
        self.expected.push_back(item);
        self.settle();
    }

    /// This has arrived.
    pub(crate) fn arrive(&mut self, item: T) {
        self.arrived.push_back(item);
        self.settle();
    }

    /// Nothing more is expected, and nothing more arrives.
    pub(crate) fn finish(&mut self) {
        while let Some(item) = self.expected.pop_front() {
            self.miss(item);
        }
        while let Some(item) = self.arrived.pop_front() {
            self.stray(&item);
        }
    }

    /// What is expected and has not arrived yet, or has been left out.
    pub(crate) fn missing(&self) -> usize {
        self.missing.len() + self.expected.len()
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.repeated
    }

    pub(crate) fn out_of_order(&self) -> u64 {
        self.out_of_order
    }

    pub(crate) fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Whether everything compared so far arrived once and in order, and nothing else did.
    pub(crate) fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.repeated + self.out_of_order + self.unknown == 0
    }

    /// The first things that are not as they should be.
    pub(crate) fn deviations(&self) -> &[Deviation<T>] {
        &self.deviations
    }

    fn settle(&mut self) {
        while let (Some(expected), Some(arrived)) = (self.expected.front(), self.arrived.front()) {
            if arrived < expected {
                if let Some(item) = self.arrived.pop_front() {
                    self.stray(&item);
                }
                continue;
            }
            let is_there = arrived == expected;
            let Some(item) = self.expected.pop_front() else {
                return;
            };
            if is_there {
                self.arrived.pop_front();
                self.passed.push_back(item);
                if self.passed.len() > REMEMBERED {
                    self.passed.pop_front();
                }
            } else {
                self.miss(item);
            }
        }
    }

    /// It was left out, or comes later.
    fn miss(&mut self, item: T) {
        self.note("missing", &item, self.arrived.front().cloned());
        self.missing.insert(item);
    }

    /// It arrived where it does not belong.
    fn stray(&mut self, item: &T) {
        let (kind, count) = if self.missing.remove(item) {
            ("out of order", &mut self.out_of_order)
        } else if self.passed.contains(item) {
            ("repeated", &mut self.repeated)
        } else {
            ("unknown", &mut self.unknown)
        };
        *count += 1;
        self.note(kind, item, self.expected.front().cloned());
    }

    fn note(&mut self, kind: &'static str, what: &T, after: Option<T>) {
        if self.deviations.len() < KEPT {
            self.deviations.push(Deviation {
                kind,
                what: what.clone(),
                before: self.passed.back().cloned(),
                after,
            });
        }
    }
}

impl<T: fmt::Debug> fmt::Display for Deviation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let neighbour = |item: &Option<T>| match item {
            Some(item) => format!("{item:?}"),
            None => "nothing".to_owned(),
        };
        let (before, after) = (neighbour(&self.before), neighbour(&self.after));
        let Self { kind, what, .. } = self;
        write!(f, "{kind}: {what:?}, between {before} and {after}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fifty are expected; all of it is known before, behind or among what arrives.
    fn played(order: &[usize]) -> Vec<Ledger<usize>> {
        let mut ledgers = Vec::new();
        for lead in [0, 25, 50] {
            let mut ledger = Ledger::default();
            (0..lead).for_each(|item| ledger.expect(item));
            for item in order {
                ledger.arrive(*item);
            }
            (lead..50).for_each(|item| ledger.expect(item));
            ledger.finish();
            ledgers.push(ledger);
        }
        ledgers
    }

    #[test]
    fn an_exact_run_is_exact() {
        let order: Vec<usize> = (0..50).collect();
        for ledger in played(&order) {
            assert!(ledger.is_exact() && ledger.missing() == 0);
            assert!(ledger.deviations().is_empty());
        }
    }

    #[test]
    fn a_lost_a_repeated_and_a_misplaced_one_are_each_found() {
        let lost: Vec<usize> = (0..50).filter(|item| *item != 30).collect();
        for ledger in played(&lost) {
            assert_eq!(ledger.missing(), 1);
            let text = ledger.deviations()[0].to_string();
            assert_eq!(text, "missing: 30, between 29 and 31");
        }

        let mut repeated: Vec<usize> = (0..50).collect();
        repeated.insert(20, 7);
        for ledger in played(&repeated) {
            assert_eq!((ledger.repeated(), ledger.missing()), (1, 0));
            let text = ledger.deviations()[0].to_string();
            assert_eq!(text, "repeated: 7, between 19 and 20");
        }

        let mut misplaced: Vec<usize> = (0..50).collect();
        misplaced.swap(10, 11);
        for ledger in played(&misplaced) {
            assert_eq!((ledger.out_of_order(), ledger.missing()), (1, 0));
        }
        let mut last: Vec<usize> = (0..49).collect();
        last.push(48);
        for order in [lost, repeated, misplaced, last] {
            assert!(played(&order).iter().all(|ledger| !ledger.is_exact()));
        }
    }

    #[test]
    fn what_nobody_expected_is_found() {
        for ledger in played(&[0, 1, 2, 99]) {
            assert_eq!((ledger.unknown(), ledger.missing()), (1, 47));
        }
    }
}
