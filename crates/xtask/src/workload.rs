//! What the demonstration and the soak have in common: writes that are done once, whatever happens
//! to the server, and a book of what arrived.

mod ledger;
mod writer;

use std::time::{Duration, Instant};

pub(crate) use self::ledger::Ledger;
pub(crate) use self::writer::Writer;

/// How often events come.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    pub(crate) events: u64,
    pub(crate) longest_gap: Duration,
    last: Option<Instant>,
}

impl Pulse {
    pub(crate) fn beat(&mut self, at: Instant) {
        self.events += 1;
        let gap = self.last.map(|last| at.saturating_duration_since(last));
        self.longest_gap = self.longest_gap.max(gap.unwrap_or_default());
        self.last = Some(at);
    }
}
