//! What holds after any sequence of inputs.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use proptest::prelude::*;

use super::*;

/// One step of a run; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    CheckOut,
    Leave(usize),
    Expire(usize),
    Establish {
        which: usize,
        service: Option<u8>,
    },
    Failing(usize),
    Failed(usize),
    CheckIn {
        which: usize,
        reusable: bool,
    },
    Ready,
    Clear {
        service: Option<u8>,
        interrupt: bool,
    },
    /// An input about a connection or a waiter that may not exist.
    Stray {
        kind: u8,
        number: u64,
    },
    Pass {
        millis: u64,
    },
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let service = || prop::option::weighted(0.2, 0..3u8);
    prop_oneof![
        8 => Just(Step::CheckOut),
        2 => any::<usize>().prop_map(Step::Leave),
        2 => any::<usize>().prop_map(Step::Expire),
        6 => (any::<usize>(), service())
            .prop_map(|(which, service)| Step::Establish { which, service }),
        1 => any::<usize>().prop_map(Step::Failing),
        2 => any::<usize>().prop_map(Step::Failed),
        6 => (any::<usize>(), prop::bool::weighted(0.8))
            .prop_map(|(which, reusable)| Step::CheckIn { which, reusable }),
        3 => Just(Step::Ready),
        1 => (service(), any::<bool>())
            .prop_map(|(service, interrupt)| Step::Clear { service, interrupt }),
        1 => (any::<u8>(), 0..40u64).prop_map(|(kind, number)| Step::Stray { kind, number }),
        2 => (0..3_000u64).prop_map(|millis| Step::Pass { millis }),
        1 => Just(Step::Close),
    ]
}

fn limits() -> impl Strategy<Value = PoolLimits> {
    let max_idle = prop::option::of((1..2_000u64).prop_map(Duration::from_millis));
    (0..6usize, 0..5usize, 1..4usize, max_idle).prop_map(
        |(max_size, min_size, max_connecting, max_idle)| PoolLimits {
            max_size: NonZeroUsize::new(max_size),
            min_size,
            max_connecting: NonZeroUsize::new(max_connecting).unwrap(),
            max_idle,
            wait_queue_timeout: None,
            populate_pause: Duration::from_millis(500),
        },
    )
}

/// What a worker would know, and what it insists on.
struct Worker {
    machine: PoolMachine,
    limits: PoolLimits,
    now: Instant,
    next_waiter: WaiterId,
    /// In the order in which they came.
    waiting: Vec<WaiterId>,
    pending: Vec<ConnectionId>,
    failing: Vec<ConnectionId>,
    idle: BTreeSet<ConnectionId>,
    in_use: BTreeSet<ConnectionId>,
    last_created: ConnectionId,
    generation: u64,
    services: [u64; 3],
    started: usize,
    ended: usize,
    created: usize,
    closed: usize,
    checked_out: usize,
    checked_in: usize,
}

impl Worker {
    fn new(limits: PoolLimits) -> Self {
        let mut worker = Self {
            machine: PoolMachine::new(limits),
            limits,
            now: Instant::now(),
            next_waiter: 1,
            waiting: Vec::new(),
            pending: Vec::new(),
            failing: Vec::new(),
            idle: BTreeSet::new(),
            in_use: BTreeSet::new(),
            last_created: 0,
            generation: 0,
            services: [0; 3],
            started: 0,
            ended: 0,
            created: 0,
            closed: 0,
            checked_out: 0,
            checked_in: 0,
        };
        worker.drain();
        worker
    }

    fn tell(&mut self, input: &Input) {
        self.machine.handle(input, self.now);
        self.drain();
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::CheckOut => {
                let waiter = self.next_waiter;
                self.next_waiter += 1;
                self.waiting.push(waiter);
                self.tell(&Input::CheckOut(waiter));
            }
            Step::Leave(which) => {
                if let Some(waiter) = pick(&self.waiting, which) {
                    self.waiting.retain(|other| *other != waiter);
                    self.tell(&Input::WaiterLeft(waiter));
                }
            }
            Step::Expire(which) => {
                if let Some(waiter) = pick(&self.waiting, which) {
                    self.tell(&Input::WaitExpired(waiter));
                }
            }
            Step::Establish { which, service } => {
                if let Some(connection) = pick(&self.pending, which) {
                    self.pending.retain(|other| *other != connection);
                    self.idle.insert(connection);
                    if let Some(service) = service.map(service_id) {
                        self.tell(&Input::Greeted {
                            connection,
                            service,
                        });
                    }
                    self.tell(&Input::Established(connection));
                }
            }
            Step::Failing(which) => {
                if let Some(connection) = pick(&self.pending, which) {
                    self.pending.retain(|other| *other != connection);
                    self.failing.push(connection);
                    self.tell(&Input::EstablishFailing(connection));
                }
            }
            Step::Failed(which) => {
                if let Some(connection) = pick(&self.failing, which) {
                    self.tell(&Input::EstablishFailed(connection));
                    assert!(!self.failing.contains(&connection));
                } else if let Some(connection) = pick(&self.pending, which) {
                    self.tell(&Input::EstablishFailed(connection));
                    assert!(!self.pending.contains(&connection));
                }
            }
            Step::CheckIn { which, reusable } => self.check_in(which, reusable),
            Step::Ready => self.tell(&Input::MarkReady),
            Step::Clear { service, interrupt } => self.clear(service, interrupt),
            Step::Stray { kind, number } => self.stray(kind, number),
            Step::Pass { millis } => {
                self.now += Duration::from_millis(millis);
                self.machine.handle_timeout(self.now);
                self.drain();
            }
            Step::Close => self.tell(&Input::Close),
        }
        self.check(matches!(step, Step::Pass { .. }));
    }

    fn check_in(&mut self, which: usize, reusable: bool) {
        let in_use: Vec<_> = self.in_use.iter().copied().collect();
        if let Some(connection) = pick(&in_use, which) {
            self.in_use.remove(&connection);
            self.idle.insert(connection);
            self.tell(&Input::CheckedIn {
                connection,
                reusable,
            });
            assert!(reusable || !self.idle.contains(&connection));
        }
    }

    fn clear(&mut self, service: Option<u8>, interrupt_in_use: bool) {
        let newest = match service {
            Some(service) => &mut self.services[usize::from(service)],
            None => &mut self.generation,
        };
        *newest += 1;
        let generation = *newest;
        self.tell(&Input::Clear {
            generation,
            service_id: service.map(service_id),
            interrupt_in_use,
        });
    }

    fn stray(&mut self, kind: u8, number: u64) {
        let is_known = |set: &BTreeSet<_>| set.contains(&number);
        let is_pending = self.pending.contains(&number) || self.failing.contains(&number);
        let (connection, reusable) = (number, true);
        match kind % 4 {
            0 if !self.waiting.contains(&number) => self.tell(&Input::WaiterLeft(number)),
            1 if !is_pending => self.tell(&Input::Established(number)),
            2 if !is_pending => self.tell(&Input::EstablishFailed(number)),
            3 if !is_known(&self.in_use) => self.tell(&Input::CheckedIn {
                connection,
                reusable,
            }),
            _ => {}
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Establish { connection, .. } => {
                    assert_eq!(connection, self.last_created, "created first");
                    self.pending.push(connection);
                }
                Action::Hand { waiter, connection } => {
                    let (turn, position) = self.leave(waiter);
                    assert_eq!(turn, 0, "first come, first served: {position}");
                    assert!(
                        self.idle.remove(&connection),
                        "an open one that nobody uses"
                    );
                    self.in_use.insert(connection);
                }
                Action::Refuse { waiter, refusal } => {
                    let (turn, _) = self.leave(waiter);
                    assert!(refusal != Refusal::TimedOut || self.machine.coming() <= turn);
                }
                Action::Discard(connection) => {
                    let known = self.idle.remove(&connection)
                        | remove(&mut self.pending, connection)
                        | remove(&mut self.failing, connection);
                    assert!(known, "nothing in use is closed, and nothing twice");
                }
                Action::Tell { connection, .. } => assert!(self.in_use.contains(&connection)),
                Action::Publish(event) => self.count(event),
            }
        }
    }

    /// Takes a waiter off, which gets an answer once only: its place among those who wait for a
    /// connection, and among all.
    fn leave(&mut self, waiter: WaiterId) -> (usize, usize) {
        let is_failing = |waiter: WaiterId| {
            let mut states = self.machine.connections.values().map(|entry| &entry.state);
            states.any(|state| {
                matches!(state, ConnectionState::Failing(Some(failed)) if failed.id == waiter)
            })
        };
        let position = self.waiting.iter().position(|other| *other == waiter);
        let position = position.expect("one answer for each waiter");
        let before = self.waiting[..position].iter();
        let turn = before.filter(|other| !is_failing(**other)).count();
        self.waiting.remove(position);
        (turn, position)
    }

    fn count(&mut self, event: CmapEvent) {
        match event {
            CmapEvent::CheckOutStarted => self.started += 1,
            CmapEvent::CheckOutFailed { .. } => self.ended += 1,
            CmapEvent::CheckedOut { .. } => {
                self.ended += 1;
                self.checked_out += 1;
            }
            CmapEvent::CheckedIn { .. } => self.checked_in += 1,
            CmapEvent::ConnectionCreated { connection } => {
                assert_eq!(connection, self.last_created + 1);
                self.last_created = connection;
                self.created += 1;
            }
            CmapEvent::ConnectionClosed { .. } => self.closed += 1,
            _ => {}
        }
    }

    fn check(&self, just_passed: bool) {
        let (machine, limits) = (&self.machine, &self.limits);
        let pending = self.pending.len() + self.failing.len();
        let total = pending + self.idle.len() + self.in_use.len();
        assert_eq!(machine.connections.len(), total);
        assert_eq!(machine.pending, pending);
        assert_eq!(machine.failing, self.failing.len());
        assert_eq!(machine.available.len(), self.idle.len());
        assert!(pending <= limits.max_connecting.get());
        assert!(limits.max_size.is_none_or(|max| total <= max.get()));
        assert_eq!(self.started, self.ended + self.waiting.len());
        assert_eq!(self.created, self.closed + total);
        assert_eq!(self.checked_out, self.checked_in + self.in_use.len());
        let serving = machine.connections.values();
        let serving = serving.filter(|entry| entry.service.is_some()).count();
        assert_eq!(machine.services.connections(), serving);
        // Nobody waits while there is something to be had.
        let queued = machine.waiters.len();
        assert!(queued == 0 || (machine.state == PoolState::Ready && self.idle.is_empty()));
        assert!(!machine.has_room() || queued <= machine.coming());
        assert!(machine.state != PoolState::Closed || self.idle.is_empty());
        let due = machine.poll_timeout();
        assert!(!just_passed || due.is_none_or(|due| due > self.now));
    }
}

fn pick<T: Copy>(of: &[T], which: usize) -> Option<T> {
    (!of.is_empty()).then(|| of[which % of.len()])
}

fn remove(from: &mut Vec<ConnectionId>, connection: ConnectionId) -> bool {
    let before = from.len();
    from.retain(|other| *other != connection);
    from.len() < before
}

fn service_id(number: u8) -> ObjectId {
    ObjectId::from_bytes([number; 12])
}

proptest! {
    #[test]
    fn limits_hold_and_every_waiter_gets_one_answer_in_its_turn(
        limits in limits(),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut worker = Worker::new(limits);
        worker.take(&Step::Ready);
        for step in &steps {
            worker.take(step);
        }
        // In the end nothing is left.
        worker.take(&Step::Close);
        while !worker.failing.is_empty() {
            worker.take(&Step::Failed(0));
        }
        while !worker.in_use.is_empty() {
            worker.take(&Step::CheckIn { which: 0, reusable: true });
        }
        prop_assert_eq!(&worker.waiting, &[] as &[WaiterId]);
        prop_assert_eq!(worker.created, worker.closed);
        prop_assert_eq!(worker.started, worker.ended);
        prop_assert_eq!(worker.machine.poll_timeout(), None);
    }
}
