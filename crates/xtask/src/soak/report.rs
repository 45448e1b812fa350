//! What is said of a soak while it runs and in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::book::Book;
use super::strikes::{Kind, Outcome};
use crate::shell;

/// Resident memory of this process in MiB; nothing where the system does not tell.
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes / 1024)
}

/// The state of a run, as one line of a table.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) elapsed: Duration,
    pub(crate) acknowledged: u64,
    pub(crate) in_oplog: u64,
    pub(crate) strikes: usize,
    pub(crate) last_strike: Option<Kind>,
}

impl Line {
    pub(crate) fn head() {
        shell::say(&format!(
            "{:>7} {:>10} {:>10} {:>11} {:>9} {:>8} {:>8} {:>8}  last strike",
            "time", "written", "in oplog", "delivered", "missing", "resumes", "strikes", "RSS MiB"
        ));
    }

    pub(crate) fn say(&self, books: &[Book]) {
        let sum = |count: fn(&Book) -> u64| books.iter().map(count).sum::<u64>();
        let missing = |book: &Book| book.pages().ledger.missing();
        shell::say(&format!(
            "{:>5} s {:>10} {:>10} {:>11} {:>9} {:>8} {:>8} {:>8}  {}",
            self.elapsed.as_secs(),
            self.acknowledged,
            self.in_oplog,
            sum(|book| book.pages().pulse.events),
            books.iter().map(missing).max().unwrap_or_default(),
            sum(|book| book.pages().resumes),
            self.strikes,
            resident().map_or("?".to_owned(), |mebibytes| mebibytes.to_string()),
            self.last_strike
                .map_or("none".to_owned(), |kind| format!("{kind:?}")),
        ));
    }
}

/// One line for each stream.
pub(crate) fn streams(books: &[Book]) {
    shell::say(&format!(
        "\n{:<26} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>12}",
        "stream",
        "events",
        "missing",
        "repeated",
        "disorder",
        "unknown",
        "resumes",
        "given up",
        "longest gap"
    ));
    for book in books {
        let pages = book.pages();
        let (ledger, pulse) = (&pages.ledger, &pages.pulse);
        shell::say(&format!(
            "{:<26} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>10.2} s",
            book.name(),
            pulse.events,
            ledger.missing(),
            ledger.repeated(),
            ledger.out_of_order(),
            ledger.unknown(),
            pages.resumes,
            pages.given_up,
            pulse.longest_gap.as_secs_f64(),
        ));
    }
}

/// One line for each kind of strike: how long the streams took to go on.
pub(crate) fn strikes(outcomes: &[Outcome]) {
    let mut by_kind: BTreeMap<Kind, (usize, Vec<Duration>)> = BTreeMap::new();
    for outcome in outcomes {
        let (count, recoveries) = by_kind.entry(outcome.kind).or_default();
        *count += 1;
        recoveries.extend(&outcome.recoveries);
    }
    shell::say(&format!(
        "\n{:<12} {:>6} {:>16} {:>12}",
        "strike", "times", "median recovery", "longest"
    ));
    for (kind, (count, mut recoveries)) in by_kind {
        recoveries.sort_unstable();
        let median = recoveries.get(recoveries.len() / 2).copied();
        let longest = recoveries.last().copied();
        let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64();
        shell::say(&format!(
            "{:<12} {:>6} {:>14.2} s {:>10.2} s",
            format!("{kind:?}"),
            count,
            seconds(median),
            seconds(longest),
        ));
    }
}
