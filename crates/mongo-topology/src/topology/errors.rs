//! Errors of the application's connections (SDAM, "Error handling").

use std::time::Instant;

use bson::oid::ObjectId;

use super::Topology;
use crate::description::TopologyType;
use crate::error::{
    ApplicationError, ApplicationErrorKind, ErrorPhase, LastError, SYSTEM_OVERLOADED_ERROR,
    StateChange,
};
use crate::server::{ServerDescription, ServerId};
use crate::topology_version::TopologyVersion;

/// The connection's generation, and behind a load balancer the service it reached.
type Origin = (u64, Option<ObjectId>);

/// What an error calls for, besides nothing.
enum Verdict {
    /// The server told that its state is another one than we think.
    StateChanged(StateChange),
    /// The server cannot be reached, or a connection to it cannot be made ready.
    Unreachable,
}

impl Topology {
    pub(super) fn application_error(
        &mut self,
        id: &ServerId,
        (generation, service_id): Origin,
        phase: ErrorPhase,
        error: ApplicationError,
        now: Instant,
    ) {
        if self.is_stale_error(id, (generation, service_id), &error) {
            return;
        }
        match verdict(&error, phase) {
            None => {}
            Some(_) if self.description.topology_type == TopologyType::LoadBalanced => {
                self.load_balanced_error(id, service_id, &error);
            }
            Some(Verdict::StateChanged(change)) => {
                let version = error.topology_version();
                let unknown = ServerDescription::failed(id.clone(), error.into(), now);
                self.update(unknown.with_topology_version(version), now);
                if change == StateChange::NodeIsShuttingDown {
                    self.clear_pool(id, None, false);
                }
                self.request_check(&id.address, now);
            }
            Some(Verdict::Unreachable) => {
                let error = LastError::from(error);
                self.update(ServerDescription::failed(id.clone(), error, now), now);
                self.clear_pool(id, None, false);
                self.cancel_check(&id.address, now);
            }
        }
    }

    /// A load balancer is never marked Unknown; at most one of its services' connections go. Before
    /// the hello has told the service, errors change nothing (Load Balancers, "Error Handling").
    fn load_balanced_error(
        &mut self,
        id: &ServerId,
        service_id: Option<ObjectId>,
        error: &ApplicationError,
    ) {
        let clears = match error.state_change() {
            Some(change) => change == StateChange::NodeIsShuttingDown,
            None => true,
        };
        if clears && service_id.is_some() {
            self.clear_pool(id, service_id, false);
        }
    }

    /// Of a server instance that has left, of an older pool, or of an older state of the server.
    fn is_stale_error(
        &self,
        id: &ServerId,
        (generation, service_id): Origin,
        error: &ApplicationError,
    ) -> bool {
        let Some(server) = self.server(id) else {
            return true;
        };
        if generation < server.pool.generation(service_id) {
            return true;
        }
        let known = self.description.servers.get(&id.address);
        let known_version = known.and_then(|known| known.topology_version());
        // Every state change brings a new version, so an error with the known one tells old news.
        TopologyVersion::compare(known_version, error.topology_version()).is_ge()
    }
}

fn verdict(error: &ApplicationError, phase: ErrorPhase) -> Option<Verdict> {
    if let Some(change) = error.state_change() {
        return Some(Verdict::StateChanged(change));
    }
    let is_network = error.kind == ApplicationErrorKind::Network;
    let is_unreachable = is_network || phase != ErrorPhase::Established;
    let is_overload = error.has_label(SYSTEM_OVERLOADED_ERROR);
    (is_unreachable && !is_overload).then_some(Verdict::Unreachable)
}
