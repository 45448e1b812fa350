//! The connection pool's rules without IO (Connection Monitoring and Pooling specification).
//!
//! The machine decides who gets which connection, when one is opened and when one is closed, and
//! what is published of it; the worker in [`super`] opens, hands over and closes what it is told
//! to. Connections are named by numbers that start at 1 and follow the order of creation.
//!
//! There is no background thread with an interval: what it would do is done when there is reason
//! to, after an input or at [`PoolMachine::poll_timeout`]. Stale connections that nobody uses are
//! closed by the clear itself, idle ones when their time has come, and connections are opened
//! ahead of need as soon as some are missing.
//!
//! A connection that is being opened is nobody's. The oldest waiter takes whatever comes first, a
//! connection that is given back or one that has become ready, so no waiter is overtaken. As many
//! waiters as connections are being opened count as served with one: `waitQueueTimeoutMS` no
//! longer concerns them, the time to connect has a limit of its own.

mod display;
mod io;
#[cfg(test)]
mod properties;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::time::Instant;

use bson::oid::ObjectId;

use self::services::Services;
use super::{ConnectionsInUse, PoolLimits};
use crate::events::{CheckOutFailure, CloseReason, CmapEvent};

pub(crate) use self::io::{Action, ConnectionId, Input, Refusal, Standing, WaiterId};

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

#[derive(Debug)]
struct Entry {
    generation: u64,
    service: Option<ObjectId>,
    created: Instant,
    state: ConnectionState,
    /// While it is in use: a cursor keeps it, behind a load balancer.
    is_of_cursor: bool,
}

/// ```text
/// Pending --established--> Available <--checked in, handed--> InUse
///    \--failing--> Failing --failed--> closed
/// ```
#[derive(Debug, PartialEq, Eq)]
enum ConnectionState {
    Pending,
    /// It could not be opened; the topology hears of it before the waiter that it fails does.
    Failing(Option<Waiter>),
    Available {
        since: Instant,
    },
    InUse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiter {
    id: WaiterId,
    since: Instant,
}

/// One server's pool; see the [module](self).
#[derive(Debug)]
pub(crate) struct PoolMachine {
    limits: PoolLimits,
    state: PoolState,
    generation: u64,
    services: Services,
    next_connection: ConnectionId,
    connections: BTreeMap<ConnectionId, Entry>,
    /// Most recently used last; check-outs take from the end, so idle ones age at the front.
    available: VecDeque<ConnectionId>,
    pending: usize,
    failing: usize,
    waiters: VecDeque<Waiter>,
    /// Nothing is opened ahead of need before.
    populate_after: Option<Instant>,
    actions: VecDeque<Action>,
}

impl PoolMachine {
    /// A pool starts paused: only a successful check of its server makes it ready.
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            state: PoolState::Paused,
            generation: 0,
            services: Services::default(),
            next_connection: 1,
            connections: BTreeMap::new(),
            available: VecDeque::new(),
            pending: 0,
            failing: 0,
            waiters: VecDeque::new(),
            populate_after: None,
            actions: VecDeque::from([Action::Publish(CmapEvent::PoolCreated { limits })]),
        }
    }

    /// Takes one fact; drain [`Self::poll_action`] afterwards.
    pub(crate) fn handle(&mut self, input: &Input, now: Instant) {
        match *input {
            Input::CheckOut(waiter) => self.handle_check_out(waiter, now),
            Input::WaiterLeft(waiter) => self.handle_waiter_left(waiter, now),
            Input::WaitExpired(waiter) => self.handle_wait_expired(waiter, now),
            Input::Greeted {
                connection,
                service,
            } => self.handle_greeted(connection, service),
            Input::Established(connection) => self.handle_established(connection, now),
            Input::EstablishFailing(connection) => self.handle_establish_failing(connection),
            Input::EstablishFailed(connection) => self.handle_establish_failed(connection, now),
            Input::CheckedIn {
                connection,
                reusable,
            } => {
                self.handle_checked_in(connection, reusable, now);
            }
            Input::HeldByCursor(connection) => self.handle_held(connection),
            Input::MarkReady => self.handle_mark_ready(),
            Input::Clear {
                generation,
                service_id,
                interrupt_in_use,
            } => {
                self.handle_clear(generation, service_id, interrupt_in_use, now);
            }
            Input::Close => self.handle_close(now),
        }
        self.serve(now);
    }

    /// Does what is due; early or repeated calls do nothing.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(connection) = self.available.front().copied()
            && self.is_idle(connection, now)
        {
            self.available.pop_front();
            self.close_connection(connection, CloseReason::Idle);
        }
        self.populate_after = self.populate_after.filter(|after| *after > now);
        self.serve(now);
    }

    /// The next order, until `None`.
    #[must_use]
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called, if nothing happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.available.front().copied();
        let idle = oldest.and_then(|connection| self.idle_at(connection));
        let lacks = self.state == PoolState::Ready && self.lacks_connections();
        [idle, self.populate_after.filter(|_| lacks)]
            .into_iter()
            .flatten()
            .min()
    }

    /// The generation of a connection; that of the pool for one that is not known.
    pub(crate) fn generation_of(&self, connection: ConnectionId) -> u64 {
        let entry = self.connections.get(&connection);
        entry.map_or(self.generation, |entry| entry.generation)
    }

    /// The pool's own generation.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// What the connections are in use for; `None` unless they reach services behind a load
    /// balancer.
    pub(crate) fn in_use(&self) -> Option<ConnectionsInUse> {
        let entries = || self.connections.values();
        let used = || entries().filter(|entry| entry.state == ConnectionState::InUse);
        entries().find(|entry| entry.service.is_some())?;
        let cursors = used().filter(|entry| entry.is_of_cursor).count();
        Some(ConnectionsInUse {
            max_pool_size: self.limits.max_size.map_or(0, NonZeroUsize::get),
            cursors,
            others: used().count() - cursors,
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state == PoolState::Closed
    }

    fn handle_check_out(&mut self, waiter: WaiterId, now: Instant) {
        self.publish(CmapEvent::CheckOutStarted);
        let waiter = Waiter {
            id: waiter,
            since: now,
        };
        match self.state {
            PoolState::Ready => self.waiters.push_back(waiter),
            PoolState::Paused => self.refuse(waiter, Refusal::Cleared, now),
            PoolState::Closed => self.refuse(waiter, Refusal::Closed, now),
        }
    }

    fn handle_waiter_left(&mut self, id: WaiterId, now: Instant) {
        let waiting = self.waiters.iter().position(|waiter| waiter.id == id);
        let waiter = match waiting {
            Some(position) => self.waiters.remove(position),
            None => self.connections.values_mut().find_map(|entry| {
                let ConnectionState::Failing(waiter) = &mut entry.state else {
                    return None;
                };
                waiter.take_if(|waiter| waiter.id == id)
            }),
        };
        if let Some(waiter) = waiter {
            self.publish(CmapEvent::CheckOutFailed {
                reason: CheckOutFailure::Timeout,
                duration: now.duration_since(waiter.since),
            });
        }
    }

    fn handle_wait_expired(&mut self, id: WaiterId, now: Instant) {
        let position = self.waiters.iter().position(|waiter| waiter.id == id);
        if let Some(position) = position.filter(|position| *position >= self.coming())
            && let Some(waiter) = self.waiters.remove(position)
        {
            self.refuse(waiter, Refusal::TimedOut, now);
        }
    }

    /// From here on the connection is of its service's generation.
    fn handle_greeted(&mut self, connection: ConnectionId, service: ObjectId) {
        if let Some(entry) = self.connections.get_mut(&connection)
            && entry.state == ConnectionState::Pending
            && entry.service.is_none()
        {
            entry.service = Some(service);
            entry.generation = self.services.join(service);
        }
    }

    fn handle_established(&mut self, connection: ConnectionId, now: Instant) {
        let Some(entry) = self.connections.get_mut(&connection) else {
            return;
        };
        if entry.state != ConnectionState::Pending {
            return;
        }
        let duration = now.duration_since(entry.created);
        if self.is_stale(connection) {
            self.close_connection(connection, CloseReason::Stale);
        } else {
            self.publish(CmapEvent::ConnectionReady {
                connection,
                duration,
            });
            self.pending -= 1;
            self.make_available(connection, now);
        }
    }

    /// Finds whom the failure concerns, before the topology clears the pool because of it: the
    /// oldest waiter, unless enough other connections are on their way.
    fn handle_establish_failing(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connections.get_mut(&connection) else {
            return;
        };
        if entry.state != ConnectionState::Pending {
            return;
        }
        self.failing += 1;
        let others = self.pending - self.failing;
        let waiter = if self.waiters.len() > others {
            self.waiters.pop_front()
        } else {
            None
        };
        entry.state = ConnectionState::Failing(waiter);
    }

    fn handle_establish_failed(&mut self, connection: ConnectionId, now: Instant) {
        self.handle_establish_failing(connection);
        let Some(entry) = self.connections.get_mut(&connection) else {
            return;
        };
        let ConnectionState::Failing(waiter) = &mut entry.state else {
            return;
        };
        let waiter = waiter.take();
        self.close_connection(connection, CloseReason::Error);
        if let Some(waiter) = waiter {
            self.refuse(waiter, Refusal::EstablishFailed, now);
        }
        // Whoever needs a connection still gets a new try at once.
        self.populate_after = now.checked_add(self.limits.populate_pause);
    }

    fn handle_checked_in(&mut self, connection: ConnectionId, reusable: bool, now: Instant) {
        let entry = self.connections.get(&connection);
        if entry.is_none_or(|entry| entry.state != ConnectionState::InUse) {
            return;
        }
        self.publish(CmapEvent::CheckedIn { connection });
        if self.state == PoolState::Closed {
            self.close_connection(connection, CloseReason::PoolClosed);
        } else if !reusable {
            self.close_connection(connection, CloseReason::Error);
        } else if self.is_stale(connection) {
            self.close_connection(connection, CloseReason::Stale);
        } else {
            self.make_available(connection, now);
        }
    }

    fn handle_held(&mut self, connection: ConnectionId) {
        let entry = self.connections.get_mut(&connection);
        if let Some(entry) = entry.filter(|entry| entry.state == ConnectionState::InUse) {
            entry.is_of_cursor = true;
        }
    }

    fn handle_mark_ready(&mut self) {
        if self.state == PoolState::Paused {
            self.state = PoolState::Ready;
            self.populate_after = None;
            self.publish(CmapEvent::PoolReady);
        }
    }

    /// Raises the generation even of a paused pool, so that older connections count as stale. A
    /// clear of a service neither pauses the pool nor fails anybody.
    fn handle_clear(
        &mut self,
        generation: u64,
        service_id: Option<ObjectId>,
        interrupt_in_use: bool,
        now: Instant,
    ) {
        let is_news = match service_id {
            _ if self.state == PoolState::Closed => false,
            Some(service) => self.services.clear(service, generation),
            None => generation > self.generation,
        };
        if !is_news {
            return;
        }
        let was_ready = self.state == PoolState::Ready;
        if service_id.is_none() {
            self.generation = generation;
            self.state = PoolState::Paused;
        }
        if was_ready || service_id.is_some() {
            self.publish(CmapEvent::PoolCleared {
                service_id,
                interrupt_in_use,
            });
        }
        let standing = if interrupt_in_use {
            Standing::Interrupted
        } else {
            Standing::Stale
        };
        self.end_stale_connections(standing);
        if service_id.is_none() {
            self.refuse_all(Refusal::Cleared, now);
        }
    }

    /// Closes the stale connections that nobody uses, and has those in use told how they stand.
    fn end_stale_connections(&mut self, standing: Standing) {
        for connection in std::mem::take(&mut self.available) {
            if self.is_stale(connection) {
                self.close_connection(connection, CloseReason::Stale);
            } else {
                self.available.push_back(connection);
            }
        }
        let all = self.connections.keys().copied();
        let stale: Vec<_> = all.filter(|id| self.is_stale(*id)).collect();
        for connection in stale {
            match self.connections[&connection].state {
                // It would only be closed once it is open, and keep others from being opened.
                ConnectionState::Pending => {
                    self.close_connection(connection, CloseReason::Stale);
                }
                ConnectionState::InUse => self.actions.push_back(Action::Tell {
                    connection,
                    standing,
                }),
                _ => {}
            }
        }
    }

    fn handle_close(&mut self, now: Instant) {
        if self.state == PoolState::Closed {
            return;
        }
        self.state = PoolState::Closed;
        self.available.clear();
        let mut in_use = Vec::new();
        for connection in self.connections.keys().copied().collect::<Vec<_>>() {
            match self.connections[&connection].state {
                ConnectionState::Available { .. } | ConnectionState::Pending => {
                    self.close_connection(connection, CloseReason::PoolClosed);
                }
                ConnectionState::InUse => in_use.push(connection),
                ConnectionState::Failing(_) => {}
            }
        }
        self.publish(CmapEvent::PoolClosed);
        self.refuse_all(Refusal::Closed, now);
        for connection in in_use {
            let standing = Standing::PoolClosed;
            self.actions.push_back(Action::Tell {
                connection,
                standing,
            });
        }
    }

    /// First come, first served: available connections to the oldest waiters, then new ones, then
    /// those that are missing from the minimum.
    fn serve(&mut self, now: Instant) {
        while !self.waiters.is_empty()
            && let Some(connection) = self.take_available(now)
            && let Some(waiter) = self.waiters.pop_front()
        {
            self.publish(CmapEvent::CheckedOut {
                connection,
                duration: now.duration_since(waiter.since),
            });
            let waiter = waiter.id;
            self.actions.push_back(Action::Hand { waiter, connection });
        }
        while self.has_room() && (self.waiters.len() > self.coming() || self.populates(now)) {
            self.establish(now);
        }
    }

    fn has_room(&self) -> bool {
        let max_size = self.limits.max_size;
        self.state == PoolState::Ready
            && self.pending < self.limits.max_connecting.get()
            && max_size.is_none_or(|max| self.connections.len() < max.get())
    }

    /// Connections that will be there for waiters.
    fn coming(&self) -> usize {
        self.pending - self.failing
    }

    fn populates(&self, now: Instant) -> bool {
        self.lacks_connections() && self.populate_after.is_none_or(|after| after <= now)
    }

    fn lacks_connections(&self) -> bool {
        self.connections.len() < self.limits.min_size
    }

    fn take_available(&mut self, now: Instant) -> Option<ConnectionId> {
        while let Some(connection) = self.available.pop_back() {
            if self.is_idle(connection, now) {
                self.close_connection(connection, CloseReason::Idle);
            } else if let Some(entry) = self.connections.get_mut(&connection) {
                entry.state = ConnectionState::InUse;
                return Some(connection);
            }
        }
        None
    }

    fn make_available(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(entry) = self.connections.get_mut(&connection) {
            entry.state = ConnectionState::Available { since: now };
            entry.is_of_cursor = false;
            self.available.push_back(connection);
        }
    }

    fn is_idle(&self, connection: ConnectionId, now: Instant) -> bool {
        self.idle_at(connection).is_some_and(|at| at <= now)
    }

    fn idle_at(&self, connection: ConnectionId) -> Option<Instant> {
        match self.connections.get(&connection)?.state {
            ConnectionState::Available { since } => since.checked_add(self.limits.max_idle?),
            _ => None,
        }
    }

    fn is_stale(&self, connection: ConnectionId) -> bool {
        let Some(entry) = self.connections.get(&connection) else {
            return true;
        };
        let newest = match entry.service {
            Some(service) => self.services.generation(service),
            None => self.generation,
        };
        entry.generation < newest
    }

    fn establish(&mut self, now: Instant) {
        let connection = self.next_connection;
        self.next_connection += 1;
        self.pending += 1;
        let generation = self.generation;
        let entry = Entry {
            generation,
            service: None,
            created: now,
            state: ConnectionState::Pending,
            is_of_cursor: false,
        };
        self.connections.insert(connection, entry);
        self.publish(CmapEvent::ConnectionCreated { connection });
        self.actions.push_back(Action::Establish {
            connection,
            generation,
        });
    }

    fn refuse_all(&mut self, refusal: Refusal, now: Instant) {
        while let Some(waiter) = self.waiters.pop_front() {
            self.refuse(waiter, refusal, now);
        }
    }

    fn refuse(&mut self, waiter: Waiter, refusal: Refusal, now: Instant) {
        self.publish(CmapEvent::CheckOutFailed {
            reason: refusal.reason(),
            duration: now.duration_since(waiter.since),
        });
        let waiter = waiter.id;
        self.actions.push_back(Action::Refuse { waiter, refusal });
    }

    /// Forgets a connection that is not in [`Self::available`].
    fn close_connection(&mut self, connection: ConnectionId, reason: CloseReason) {
        let Some(entry) = self.connections.remove(&connection) else {
            return;
        };
        match entry.state {
            ConnectionState::Pending => self.pending -= 1,
            ConnectionState::Failing(_) => {
                self.pending -= 1;
                self.failing -= 1;
            }
            ConnectionState::Available { .. } | ConnectionState::InUse => {}
        }
        if let Some(service) = entry.service {
            self.services.leave(service);
        }
        self.publish(CmapEvent::ConnectionClosed { connection, reason });
        self.actions.push_back(Action::Discard(connection));
    }

    fn publish(&mut self, event: CmapEvent) {
        self.actions.push_back(Action::Publish(event));
    }
}
