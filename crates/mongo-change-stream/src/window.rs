//! The window of delivered batches that nobody has taken up yet.

use std::collections::VecDeque;

use crate::Prefetch;

/// Says when the next batch may be fetched.
#[derive(Debug)]
pub(crate) struct Window {
    prefetch: Option<Prefetch>,
    waiting: VecDeque<usize>,
    waiting_bytes: usize,
    demanded: bool,
}

impl Window {
    pub(crate) fn new(prefetch: Option<Prefetch>) -> Self {
        Self {
            prefetch,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            demanded: false,
        }
    }

    /// The consumer has used up everything and waits. Crossed by a delivery it is moot.
    pub(crate) fn demand(&mut self) {
        self.demanded = self.waiting.is_empty();
    }

    /// Any delivery answers the demand; only one with events occupies the window.
    pub(crate) fn delivered(&mut self, bytes: usize, has_events: bool) {
        self.demanded = false;
        if has_events {
            self.waiting.push_back(bytes);
            self.waiting_bytes += bytes;
        }
    }

    pub(crate) fn taken(&mut self) {
        if let Some(bytes) = self.waiting.pop_front() {
            self.waiting_bytes -= bytes;
        }
    }

    pub(crate) fn wants_more(&self) -> bool {
        self.demanded
            || self.prefetch.is_some_and(|limit| {
                self.waiting.len() < limit.batches.max(1) && self.waiting_bytes < limit.bytes.max(1)
            })
    }
}
