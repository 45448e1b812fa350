//! When to look up SRV records again, and what their hosts change (Polling SRV Records for mongos
//! Discovery).

use std::collections::BTreeSet;
use std::time::Instant;

use mongo_uri::{Rescan, ServerAddress};

use super::Topology;
use crate::config::TopologyConfig;
use crate::description::TopologyType;
use crate::io::Action;
use crate::transitions::Draft;

/// The schedule of the lookups.
///
/// ```text
///              due                     outcome
///   Waiting ----------> Resolving -----------------> Waiting
///      |                    |
///      |  the topology is neither Sharded nor Unknown
///      +---------+----------+
///                v
///               Off
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) enum SrvSchedule {
    /// The seeds did not come from SRV records, or the deployment is one that lists its own
    /// members.
    Off,
    /// The next lookup is due then.
    Waiting(Instant),
    /// A lookup is with the client.
    Resolving,
}

impl SrvSchedule {
    pub(super) fn new(config: &TopologyConfig, now: Instant) -> Self {
        match config.srv_ttl {
            Some(ttl) => Self::Waiting(now + config.rescan_after(ttl)),
            None => Self::Off,
        }
    }

    pub(super) const fn due(self) -> Option<Instant> {
        match self {
            Self::Waiting(due) => Some(due),
            Self::Off | Self::Resolving => None,
        }
    }

    /// Only topologies that cannot tell their own members are polled.
    pub(super) const fn topology_is(&mut self, topology_type: TopologyType) {
        if !matches!(topology_type, TopologyType::Sharded | TopologyType::Unknown) {
            *self = Self::Off;
        }
    }
}

impl Topology {
    pub(super) fn poll_srv(&mut self, now: Instant) {
        if self.srv.due().is_some_and(|due| due <= now) {
            self.srv = SrvSchedule::Resolving;
            self.actions.push_back(Action::ResolveSrv {
                seed: self.rng.next_u64(),
            });
        }
    }

    /// A lookup that found no host of the domain counts as failed: the topology stays as it is.
    pub(super) fn srv_resolved(&mut self, rescan: Rescan, now: Instant) {
        if !matches!(self.srv, SrvSchedule::Resolving) {
            return;
        }
        let pause = match rescan.next {
            Some(ttl) => self.config.rescan_after(ttl),
            None => self.config.heartbeat(),
        };
        self.srv = SrvSchedule::Waiting(now + pause);
        if let Some(hosts) = rescan.hosts.filter(|hosts| !hosts.is_empty()) {
            self.take_hosts(&hosts, now);
        }
    }

    fn take_hosts(&mut self, hosts: &BTreeSet<ServerAddress>, now: Instant) {
        let mut draft = Draft::new(&self.description, &mut self.counters.instances, now);
        draft.set_hosts(hosts);
        let outcome = draft.finish(&self.description);
        self.commit(outcome, now);
    }
}
