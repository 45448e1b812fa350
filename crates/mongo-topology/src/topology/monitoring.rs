//! Checks, their outcomes, and round trip measurements (Server Monitoring).

use std::sync::Arc;
use std::time::{Duration, Instant};

use mongo_uri::ServerAddress;

use super::Topology;
use crate::check::{Check, CheckId};
use crate::error::CheckError;
use crate::events::{Heartbeat, SdamEvent};
use crate::hello::HelloReply;
use crate::io::Action;
use crate::monitor::{Monitor, Running};
use crate::server::{ServerDescription, ServerId, ServerType};

impl Topology {
    pub(super) fn hello_received(
        &mut self,
        id: &ServerId,
        check: CheckId,
        reply: Arc<HelloReply>,
        (round_trip, more_to_come): (Option<Duration>, bool),
        now: Instant,
    ) {
        let Some((running, monitor)) = self.running_check(id, check) else {
            return;
        };
        let repeats = running.awaited && monitor.knows(&reply);
        monitor.reply_received(&reply, round_trip, more_to_come);
        let heartbeat = heartbeat(id, monitor, running.awaited);
        let samples = monitor.samples().round_trip();
        let duration = round_trip
            .filter(|_| !running.awaited)
            .unwrap_or_else(|| now.saturating_duration_since(running.started));
        let event = SdamEvent::HeartbeatSucceeded {
            heartbeat,
            duration,
            reply: Arc::clone(&reply),
        };
        self.publish(event);
        self.end_check(&id.address, now);
        let answered = ServerDescription::answered(id.clone(), reply, samples, now);
        let is_changed = self.update(answered, now);
        let not_before = if repeats && !is_changed {
            running.started + self.config.min_heartbeat_frequency
        } else {
            now
        };
        self.begin_next(id, not_before, now);
    }

    pub(super) fn check_failed(
        &mut self,
        id: &ServerId,
        check: CheckId,
        error: CheckError,
        now: Instant,
    ) {
        if self.running_check(id, check).is_none() {
            return;
        }
        let was_known = self
            .description
            .servers
            .get(&id.address)
            .is_some_and(|known| known.server_type() != ServerType::Unknown);
        self.fail_check(&id.address, &error, now);
        let (is_network, is_timeout) = (error.is_network(), error.is_timeout());
        self.update(
            ServerDescription::failed(id.clone(), error.into(), now),
            now,
        );
        self.clear_pool(id, None, is_timeout);
        if is_network && was_known {
            // The socket may have broken while the server is well: look once more before waiting.
            self.begin_check(&id.address, now);
        }
    }

    /// A pool's new connection has learnt the server's state; older pools' news are stale.
    pub(super) fn handshake_received(
        &mut self,
        id: &ServerId,
        generation: u64,
        reply: HelloReply,
        now: Instant,
    ) {
        let Some(server) = self.server(id) else {
            return;
        };
        // Behind a load balancer there is nothing to learn. And a server that no check of its own
        // has reached yet has no round trip time to be selected by.
        let round_trip = server.monitor.samples().round_trip();
        if generation < server.pool.generation(None) || round_trip.average.is_none() {
            return;
        }
        let reply = Arc::new(reply);
        self.update(
            ServerDescription::answered(id.clone(), reply, round_trip, now),
            now,
        );
    }

    pub(super) fn rtt_ended(&mut self, id: &ServerId, sample: Option<Duration>, now: Instant) {
        if let Some(server) = self
            .servers
            .get_mut(&id.address)
            .filter(|server| server.id == *id)
        {
            server.monitor.rtt_ended(sample, &self.config, now);
        }
    }

    pub(super) fn request_all_checks(&mut self, now: Instant) {
        let addresses: Vec<_> = self.servers.keys().cloned().collect();
        for address in &addresses {
            self.request_check(address, now);
        }
    }

    pub(super) fn request_check(&mut self, address: &ServerAddress, now: Instant) {
        if let Some(server) = self.servers.get_mut(address) {
            server.monitor.request_check(now);
            self.begin_due(address, now);
        }
    }

    /// Ends the running check, if there is one, and closes the monitor's socket (Server Monitoring,
    /// "hello or legacy hello Cancellation").
    pub(super) fn cancel_check(&mut self, address: &ServerAddress, now: Instant) {
        let Some(server) = self.servers.get(address) else {
            return;
        };
        if server.monitor.is_connected() {
            let id = server.id.clone();
            self.abandon_check(address, now);
            self.actions.push_back(Action::CancelCheck(id));
        }
    }

    /// Ends the running check in the books alone.
    pub(super) fn abandon_check(&mut self, address: &ServerAddress, now: Instant) {
        self.fail_check(address, &CheckError::network("check cancelled"), now);
    }

    /// Begins what is due of a server: its check, its measurement.
    pub(super) fn begin_due(&mut self, address: &ServerAddress, now: Instant) {
        let Some(server) = self.servers.get(address) else {
            return;
        };
        if server.monitor.is_check_due(now) {
            self.begin_check(address, now);
        }
        self.begin_rtt(address, now);
    }

    pub(super) fn begin_all(&mut self, servers: &[ServerId], now: Instant) {
        for server in servers {
            self.begin_due(&server.address, now);
        }
    }

    /// After a good reply: the next check at once if the server streams. One that does not hold
    /// its replies back, although there is nothing new, is given the least time between checks:
    /// it would be asked as fast as it answers.
    fn begin_next(&mut self, id: &ServerId, not_before: Instant, now: Instant) {
        let Some(server) = self.servers.get_mut(&id.address) else {
            return;
        };
        if server.id != *id || !server.monitor.streams(&self.config) {
            return;
        }
        server.monitor.wait_until(not_before);
        self.begin_due(&id.address, now);
    }

    fn begin_check(&mut self, address: &ServerAddress, now: Instant) {
        let Some(server) = self.servers.get_mut(address) else {
            return;
        };
        self.counters.checks += 1;
        let check_id = CheckId(self.counters.checks);
        let number = self.counters.connections + 1;
        let check = server
            .monitor
            .begin_check(&self.config, check_id, number, now);
        if let Check::Connect { .. } = check {
            self.counters.connections = number;
        }
        let server_id = server.id.clone();
        let heartbeat = heartbeat(&server_id, &server.monitor, check.is_awaited());
        self.publish(SdamEvent::HeartbeatStarted { heartbeat });
        self.actions.push_back(Action::Check {
            server: server_id,
            id: check_id,
            check,
        });
    }

    fn begin_rtt(&mut self, address: &ServerAddress, now: Instant) {
        let Some(server) = self.servers.get_mut(address) else {
            return;
        };
        if let Some(check) = server.monitor.begin_rtt(&self.config, now) {
            let server = server.id.clone();
            self.actions.push_back(Action::MeasureRtt { server, check });
        }
    }

    /// The check that `check` names, if it is the one that runs on this instance of the server.
    fn running_check(&mut self, id: &ServerId, check: CheckId) -> Option<(Running, &mut Monitor)> {
        let monitor = &mut self.server_mut(id)?.monitor;
        let running = monitor.running().filter(|running| running.id == check)?;
        Some((running, monitor))
    }

    fn end_check(&mut self, address: &ServerAddress, now: Instant) {
        if let Some(server) = self.servers.get_mut(address) {
            server.monitor.wait(&self.config, now);
        }
    }

    /// Every check that was started ends in an event, and takes its connection with it.
    fn fail_check(&mut self, address: &ServerAddress, failure: &CheckError, now: Instant) {
        let Some(server) = self.servers.get_mut(address) else {
            return;
        };
        let running = server.monitor.running();
        let event = running.map(|running| SdamEvent::HeartbeatFailed {
            heartbeat: heartbeat(&server.id, &server.monitor, running.awaited),
            duration: now.saturating_duration_since(running.started),
            failure: failure.clone(),
        });
        server.monitor.disconnect();
        server.monitor.wait(&self.config, now);
        if let Some(event) = event {
            self.publish(event);
        }
    }
}

fn heartbeat(server: &ServerId, monitor: &Monitor, awaited: bool) -> Heartbeat {
    let (connection, server_connection) = monitor.connection_numbers();
    Heartbeat {
        server: server.clone(),
        connection,
        server_connection,
        awaited,
    }
}
