//! A machine to try things on, and the actions as the tests write them.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::super::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Bench {
    pub(super) machine: PoolMachine,
    pub(super) now: Instant,
}

/// Limits as most tests want them: connections are idle after a minute, and never too few.
pub(super) fn limits(max_size: usize, max_connecting: usize) -> PoolLimits {
    PoolLimits {
        max_size: NonZeroUsize::new(max_size),
        min_size: 0,
        max_connecting: NonZeroUsize::new(max_connecting).unwrap(),
        max_idle: Some(60 * SECOND),
        wait_queue_timeout: None,
        populate_pause: SECOND,
    }
}

impl Bench {
    pub(super) fn new(limits: PoolLimits) -> Self {
        let mut machine = PoolMachine::new(limits);
        let created = machine.poll_action();
        assert_eq!(created, Some(publish(CmapEvent::PoolCreated { limits })));
        let now = Instant::now();
        Self { machine, now }
    }

    pub(super) fn ready(limits: PoolLimits) -> Self {
        let mut bench = Self::new(limits);
        let ready = bench.tell(Input::MarkReady);
        assert_eq!(ready.first(), Some(&publish(CmapEvent::PoolReady)));
        bench
    }

    /// A pool with so many connections in use, by the waiters of the same numbers.
    pub(super) fn in_use(limits: PoolLimits, count: u64) -> Self {
        let mut bench = Self::ready(limits);
        for number in 1..=count {
            bench.tell(Input::CheckOut(number));
            bench.established(number);
        }
        bench
    }

    pub(super) fn tell(&mut self, input: Input) -> Vec<Action> {
        self.machine.handle(&input, self.now);
        self.drain()
    }

    /// Everything but what is published.
    pub(super) fn order(&mut self, input: Input) -> Vec<Action> {
        orders(self.tell(input))
    }

    pub(super) fn established(&mut self, connection: ConnectionId) -> Vec<Action> {
        self.order(Input::Established(connection))
    }

    pub(super) fn back(&mut self, connection: ConnectionId) -> Vec<Action> {
        let reusable = true;
        self.tell(Input::CheckedIn {
            connection,
            reusable,
        })
    }

    pub(super) fn clear(&mut self, interrupt_in_use: bool) -> Vec<Action> {
        let generation = self.machine.generation() + 1;
        let service_id = None;
        self.tell(Input::Clear {
            generation,
            service_id,
            interrupt_in_use,
        })
    }

    pub(super) fn timeout(&mut self) -> Vec<Action> {
        self.machine.handle_timeout(self.now);
        self.drain()
    }

    pub(super) fn drain(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.machine.poll_action()).collect()
    }
}

pub(super) fn orders(actions: Vec<Action>) -> Vec<Action> {
    let ordered = |action: &Action| !matches!(action, Action::Publish(_));
    actions.into_iter().filter(ordered).collect()
}

pub(super) fn publish(event: CmapEvent) -> Action {
    Action::Publish(event)
}

pub(super) fn establish(connection: ConnectionId) -> Action {
    establish_in(connection, 0)
}

pub(super) fn establish_in(connection: ConnectionId, generation: u64) -> Action {
    Action::Establish {
        connection,
        generation,
    }
}

pub(super) fn hand(waiter: WaiterId, connection: ConnectionId) -> Action {
    Action::Hand { waiter, connection }
}

pub(super) fn refuse(waiter: WaiterId, refusal: Refusal) -> Action {
    Action::Refuse { waiter, refusal }
}

/// A connection comes back that is of no more use.
pub(super) fn broken(connection: ConnectionId) -> Input {
    let reusable = false;
    Input::CheckedIn {
        connection,
        reusable,
    }
}

/// A connection came back, and was closed.
pub(super) fn ended(connection: ConnectionId, reason: CloseReason) -> [Action; 3] {
    [
        publish(CmapEvent::CheckedIn { connection }),
        closed(connection, reason),
        Action::Discard(connection),
    ]
}

pub(super) fn closed(connection: ConnectionId, reason: CloseReason) -> Action {
    publish(CmapEvent::ConnectionClosed { connection, reason })
}

pub(super) fn failed(reason: CheckOutFailure, duration: Duration) -> Action {
    publish(CmapEvent::CheckOutFailed { reason, duration })
}
