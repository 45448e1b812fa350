//! The connection pool's rules without IO (Connection Monitoring and Pooling specification).
//!
//! The machine decides who gets which connection, when one is opened and when one is closed; the
//! worker in [`super`] opens, hands over and closes what it is told to. Connections are named by
//! numbers that start at 1 and follow the order of creation.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// A connection's number within its pool.
pub(crate) type ConnectionId = u64;

/// A waiting check-out's number within its pool.
pub(crate) type WaiterId = u64;

/// What bounds a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// `maxPoolSize`; `None` is unlimited (the URI's 0).
    pub(crate) max_size: Option<NonZeroUsize>,
    /// `maxConnecting`: connections that may be pending at once.
    pub(crate) max_connecting: NonZeroUsize,
    /// `maxIdleTimeMS`: an available connection older than this is closed instead of used.
    pub(crate) max_idle: Option<Duration>,
}

/// A pool's state, as the specification names it.
///
/// ```text
/// Paused --mark ready--> Ready --clear--> Paused --close--> Closed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolState {
    Paused,
    Ready,
    Closed,
}

/// Facts told to the machine.
#[derive(Debug)]
pub(crate) enum Input {
    CheckOut(WaiterId),
    /// The waiter's future was dropped before it got an answer.
    WaiterLeft(WaiterId),
    Established(ConnectionId),
    EstablishFailed(ConnectionId),
    /// `reusable` is false when a reply may still be unread or the stream is broken.
    CheckedIn {
        connection: ConnectionId,
        reusable: bool,
    },
    MarkReady,
    Clear {
        generation: u64,
        interrupt_in_use: bool,
    },
    Close,
}

/// Why a check-out was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The pool was cleared, or is paused after a clear: the server is not known to work.
    Cleared,
    /// The pool is closed: the server left the topology or the client was shut down.
    Closed,
    /// The connection that this waiter waited for could not be established.
    EstablishFailed,
}

/// Orders given by the machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Establish {
        connection: ConnectionId,
        generation: u64,
    },
    Hand {
        waiter: WaiterId,
        connection: ConnectionId,
    },
    Refuse {
        waiter: WaiterId,
        refusal: Refusal,
    },
    /// Close an available or checked-in connection.
    Discard(ConnectionId),
    /// Cancel a connection that is in use or pending.
    Interrupt(ConnectionId),
}

#[derive(Debug)]
struct Entry {
    generation: u64,
    state: ConnectionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    Pending,
    Available { since: Instant },
    InUse,
}

/// One server's pool; see the [module](self).
#[derive(Debug)]
pub(crate) struct PoolMachine {
    limits: PoolLimits,
    state: PoolState,
    generation: u64,
    next_connection: ConnectionId,
    connections: BTreeMap<ConnectionId, Entry>,
    /// Most recently used last; check-outs take from the end, so idle ones age at the front.
    available: Vec<ConnectionId>,
    pending: usize,
    waiters: VecDeque<WaiterId>,
    actions: VecDeque<Action>,
}

impl PoolMachine {
    /// A pool starts paused: only a successful check of its server makes it ready.
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            state: PoolState::Paused,
            generation: 0,
            next_connection: 1,
            connections: BTreeMap::new(),
            available: Vec::new(),
            pending: 0,
            waiters: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// Takes one fact; drain [`Self::poll_action`] afterwards.
    pub(crate) fn handle(&mut self, input: &Input, now: Instant) {
        match *input {
            Input::CheckOut(waiter) => self.handle_check_out(waiter),
            Input::WaiterLeft(waiter) => self.waiters.retain(|other| *other != waiter),
            Input::Established(connection) => self.handle_established(connection, now),
            Input::EstablishFailed(connection) => self.handle_establish_failed(connection),
            Input::CheckedIn {
                connection,
                reusable,
            } => {
                self.handle_checked_in(connection, reusable, now);
            }
            Input::MarkReady => {
                if self.state == PoolState::Paused {
                    self.state = PoolState::Ready;
                }
            }
            Input::Clear {
                generation,
                interrupt_in_use,
            } => {
                self.handle_clear(generation, interrupt_in_use);
            }
            Input::Close => self.handle_close(),
        }
        self.serve(now);
    }

    /// The next order, until `None`.
    #[must_use]
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The generation that a new connection gets.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    fn handle_check_out(&mut self, waiter: WaiterId) {
        match self.state {
            PoolState::Ready => self.waiters.push_back(waiter),
            PoolState::Paused => self.refuse(waiter, Refusal::Cleared),
            PoolState::Closed => self.refuse(waiter, Refusal::Closed),
        }
    }

    fn handle_established(&mut self, connection: ConnectionId, now: Instant) {
        let Some(entry) = self.connections.get_mut(&connection) else {
            return;
        };
        debug_assert_eq!(entry.state, ConnectionState::Pending);
        self.pending -= 1;
        if self.state == PoolState::Closed || entry.generation < self.generation {
            self.discard(connection);
        } else {
            entry.state = ConnectionState::Available { since: now };
            self.available.push(connection);
        }
    }

    fn handle_establish_failed(&mut self, connection: ConnectionId) {
        if self.connections.remove(&connection).is_none() {
            return;
        }
        self.pending -= 1;
        if let Some(waiter) = self.waiters.pop_front() {
            self.refuse(waiter, Refusal::EstablishFailed);
        }
    }

    fn handle_checked_in(&mut self, connection: ConnectionId, reusable: bool, now: Instant) {
        let Some(entry) = self.connections.get_mut(&connection) else {
            return;
        };
        let stale = entry.generation < self.generation || self.state == PoolState::Closed;
        if stale || !reusable {
            self.discard(connection);
        } else {
            entry.state = ConnectionState::Available { since: now };
            self.available.push(connection);
        }
    }

    /// Raises the generation even of a paused pool, so that older connections count as stale.
    fn handle_clear(&mut self, generation: u64, interrupt_in_use: bool) {
        if self.state == PoolState::Closed || generation <= self.generation {
            return;
        }
        self.generation = generation;
        self.state = PoolState::Paused;
        while let Some(waiter) = self.waiters.pop_front() {
            self.refuse(waiter, Refusal::Cleared);
        }
        for connection in std::mem::take(&mut self.available) {
            self.discard(connection);
        }
        if interrupt_in_use {
            let orders = self.connections.keys().map(|id| Action::Interrupt(*id));
            self.actions.extend(orders);
        }
    }

    fn handle_close(&mut self) {
        self.state = PoolState::Closed;
        for connection in std::mem::take(&mut self.available) {
            self.discard(connection);
        }
        while let Some(waiter) = self.waiters.pop_front() {
            self.refuse(waiter, Refusal::Closed);
        }
        let orders = self.connections.keys().map(|id| Action::Interrupt(*id));
        self.actions.extend(orders);
    }

    /// First come, first served: available connections to the oldest waiters, then new ones.
    fn serve(&mut self, now: Instant) {
        while let Some(waiter) = self.waiters.front().copied() {
            let Some(connection) = self.take_available(now) else {
                break;
            };
            self.waiters.pop_front();
            self.actions.push_back(Action::Hand { waiter, connection });
        }
        while self.state == PoolState::Ready
            && self.pending < self.waiters.len()
            && self.pending < self.limits.max_connecting.get()
            && self
                .limits
                .max_size
                .is_none_or(|max| self.connections.len() < max.get())
        {
            self.establish();
        }
    }

    fn take_available(&mut self, now: Instant) -> Option<ConnectionId> {
        while let Some(connection) = self.available.pop() {
            let Some(entry) = self.connections.get_mut(&connection) else {
                continue;
            };
            let ConnectionState::Available { since } = entry.state else {
                continue;
            };
            let idle = self
                .limits
                .max_idle
                .is_some_and(|max| now.duration_since(since) > max);
            if !idle {
                entry.state = ConnectionState::InUse;
                return Some(connection);
            }
            self.discard(connection);
        }
        None
    }

    fn establish(&mut self) {
        let connection = self.next_connection;
        self.next_connection += 1;
        self.pending += 1;
        let entry = Entry {
            generation: self.generation,
            state: ConnectionState::Pending,
        };
        self.connections.insert(connection, entry);
        self.actions.push_back(Action::Establish {
            connection,
            generation: self.generation,
        });
    }

    fn refuse(&mut self, waiter: WaiterId, refusal: Refusal) {
        self.actions.push_back(Action::Refuse { waiter, refusal });
    }

    fn discard(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.actions.push_back(Action::Discard(connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        machine: PoolMachine,
        now: Instant,
    }

    impl Bench {
        fn new(max_size: usize, max_connecting: usize) -> Self {
            let machine = PoolMachine::new(PoolLimits {
                max_size: NonZeroUsize::new(max_size),
                max_connecting: NonZeroUsize::new(max_connecting).unwrap(),
                max_idle: Some(Duration::from_secs(60)),
            });
            Self {
                machine,
                now: Instant::now(),
            }
        }

        fn ready(max_size: usize, max_connecting: usize) -> Self {
            let mut bench = Self::new(max_size, max_connecting);
            assert_eq!(bench.tell(Input::MarkReady), []);
            bench
        }

        fn tell(&mut self, input: Input) -> Vec<Action> {
            self.machine.handle(&input, self.now);
            std::iter::from_fn(|| self.machine.poll_action()).collect()
        }
    }

    #[test]
    fn paused_pool_refuses_at_once() {
        let mut bench = Bench::new(1, 1);
        let refused = Action::Refuse {
            waiter: 7,
            refusal: Refusal::Cleared,
        };
        assert_eq!(bench.tell(Input::CheckOut(7)), [refused]);
    }

    #[test]
    fn a_returned_connection_goes_to_the_oldest_waiter() {
        let mut bench = Bench::ready(1, 1);
        assert_eq!(
            bench.tell(Input::CheckOut(1)),
            [Action::Establish {
                connection: 1,
                generation: 0
            }]
        );
        assert_eq!(bench.tell(Input::CheckOut(2)), []);
        assert_eq!(bench.tell(Input::CheckOut(3)), []);
        assert_eq!(
            bench.tell(Input::Established(1)),
            [Action::Hand {
                waiter: 1,
                connection: 1
            }]
        );
        let back = Input::CheckedIn {
            connection: 1,
            reusable: true,
        };
        assert_eq!(
            bench.tell(back),
            [Action::Hand {
                waiter: 2,
                connection: 1
            }]
        );
    }

    #[test]
    fn a_waiter_that_left_passes_its_turn_on() {
        let mut bench = Bench::ready(1, 1);
        bench.tell(Input::CheckOut(1));
        bench.tell(Input::CheckOut(2));
        bench.tell(Input::WaiterLeft(1));
        assert_eq!(
            bench.tell(Input::Established(1)),
            [Action::Hand {
                waiter: 2,
                connection: 1
            }]
        );
    }

    #[test]
    fn pending_connections_never_exceed_max_connecting_or_max_size() {
        let mut bench = Bench::ready(3, 2);
        let opened: usize = (1..=5)
            .map(|waiter| bench.tell(Input::CheckOut(waiter)).len())
            .sum();
        assert_eq!(opened, 2);
        let third = bench.tell(Input::Established(1));
        assert_eq!(
            third,
            [
                Action::Hand {
                    waiter: 1,
                    connection: 1
                },
                Action::Establish {
                    connection: 3,
                    generation: 0
                }
            ]
        );
        bench.tell(Input::Established(2));
        assert_eq!(
            bench.tell(Input::Established(3)),
            [Action::Hand {
                waiter: 3,
                connection: 3
            }]
        );
    }

    #[test]
    fn clear_fails_waiters_discards_available_and_outdates_the_rest() {
        let mut bench = Bench::ready(2, 2);
        bench.tell(Input::CheckOut(1));
        bench.tell(Input::CheckOut(2));
        bench.tell(Input::Established(1));
        bench.tell(Input::Established(2));
        bench.tell(Input::CheckedIn {
            connection: 1,
            reusable: true,
        });
        let cleared = bench.tell(Input::Clear {
            generation: 1,
            interrupt_in_use: false,
        });
        assert_eq!(cleared, [Action::Discard(1)]);
        let back = Input::CheckedIn {
            connection: 2,
            reusable: true,
        };
        assert_eq!(bench.tell(back), [Action::Discard(2)]);
        bench.tell(Input::MarkReady);
        assert_eq!(
            bench.tell(Input::CheckOut(3)),
            [Action::Establish {
                connection: 3,
                generation: 1
            }]
        );
    }

    #[test]
    fn a_pending_connection_of_an_old_generation_is_not_used() {
        let mut bench = Bench::ready(2, 2);
        bench.tell(Input::CheckOut(1));
        bench.tell(Input::Clear {
            generation: 1,
            interrupt_in_use: false,
        });
        assert_eq!(bench.tell(Input::Established(1)), [Action::Discard(1)]);
    }

    #[test]
    fn interrupt_names_every_connection_in_use_or_pending() {
        let mut bench = Bench::ready(2, 2);
        bench.tell(Input::CheckOut(1));
        bench.tell(Input::Established(1));
        bench.tell(Input::CheckOut(2));
        let cleared = bench.tell(Input::Clear {
            generation: 1,
            interrupt_in_use: true,
        });
        assert_eq!(
            cleared,
            [
                Action::Refuse {
                    waiter: 2,
                    refusal: Refusal::Cleared
                },
                Action::Interrupt(1),
                Action::Interrupt(2)
            ]
        );
    }

    #[test]
    fn a_failed_establishment_fails_the_oldest_waiter_and_the_next_one_tries_again() {
        let mut bench = Bench::ready(2, 1);
        bench.tell(Input::CheckOut(1));
        bench.tell(Input::CheckOut(2));
        assert_eq!(
            bench.tell(Input::EstablishFailed(1)),
            [
                Action::Refuse {
                    waiter: 1,
                    refusal: Refusal::EstablishFailed
                },
                Action::Establish {
                    connection: 2,
                    generation: 0
                }
            ]
        );
    }

    #[test]
    fn idle_and_broken_connections_are_not_handed_out() {
        let mut bench = Bench::ready(2, 2);
        bench.tell(Input::CheckOut(1));
        bench.tell(Input::Established(1));
        bench.tell(Input::CheckedIn {
            connection: 1,
            reusable: true,
        });
        bench.now += Duration::from_secs(61);
        assert_eq!(
            bench.tell(Input::CheckOut(2)),
            [
                Action::Discard(1),
                Action::Establish {
                    connection: 2,
                    generation: 0
                }
            ]
        );
        bench.tell(Input::Established(2));
        let broken = Input::CheckedIn {
            connection: 2,
            reusable: false,
        };
        assert_eq!(bench.tell(broken), [Action::Discard(2)]);
    }

    #[test]
    fn a_closed_pool_refuses_and_takes_nothing_back() {
        let mut bench = Bench::ready(2, 2);
        bench.tell(Input::CheckOut(1));
        bench.tell(Input::Established(1));
        assert_eq!(bench.tell(Input::Close), [Action::Interrupt(1)]);
        let back = Input::CheckedIn {
            connection: 1,
            reusable: true,
        };
        assert_eq!(bench.tell(back), [Action::Discard(1)]);
        let refused = Action::Refuse {
            waiter: 2,
            refusal: Refusal::Closed,
        };
        assert_eq!(bench.tell(Input::CheckOut(2)), [refused]);
        assert_eq!(bench.tell(Input::MarkReady), []);
    }
}
