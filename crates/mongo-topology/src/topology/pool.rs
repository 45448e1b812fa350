//! The generations of a server's pool, and the orders to its keeper (SDAM, "Connection Pool
//! Management").

use std::collections::BTreeMap;

use bson::oid::ObjectId;

use super::Topology;
use crate::description::TopologyType;
use crate::io::Action;
use crate::server::{ServerId, ServerType};

/// How many services behind a load balancer are remembered for one pool. A generation that is
/// forgotten counts as 0 again, which takes errors of old connections for fresh ones at worst.
const MAX_SERVICES: usize = 1_024;

/// The state of a pool that discovery decides on.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    generation: u64,
    is_ready: bool,
    services: BTreeMap<ObjectId, u64>,
}

impl Pool {
    pub(super) fn generation(&self, service_id: Option<ObjectId>) -> u64 {
        match service_id {
            None => self.generation,
            Some(service) => self.services.get(&service).copied().unwrap_or(0),
        }
    }

    fn clear(&mut self, service_id: Option<ObjectId>) -> u64 {
        let generation = match service_id {
            None => {
                self.is_ready = false;
                &mut self.generation
            }
            Some(service) => {
                if self.services.len() >= MAX_SERVICES && !self.services.contains_key(&service) {
                    self.services.pop_first();
                }
                self.services.entry(service).or_insert(0)
            }
        };
        *generation += 1;
        *generation
    }
}

impl Topology {
    /// Lets the server's pool work, once the topology holds the server to be one that can be used.
    pub(super) fn mark_pool_ready(&mut self, id: &ServerId) {
        let Some(description) = self.description.servers.get(&id.address) else {
            return;
        };
        let server_type = description.server_type();
        let is_direct = self.description.topology_type == TopologyType::Single;
        let is_usable =
            server_type.is_data_bearing() || (is_direct && server_type != ServerType::Unknown);
        if !is_usable {
            return;
        }
        if let Some(server) = self.server_mut(id)
            && !server.pool.is_ready
        {
            server.pool.is_ready = true;
            self.actions.push_back(Action::MarkPoolReady(id.clone()));
        }
    }

    pub(super) fn clear_pool(
        &mut self,
        id: &ServerId,
        service_id: Option<ObjectId>,
        interrupt_in_use: bool,
    ) {
        if let Some(server) = self.server_mut(id) {
            let generation = server.pool.clear(service_id);
            self.actions.push_back(Action::ClearPool {
                server: id.clone(),
                generation,
                service_id,
                interrupt_in_use,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(number: u16) -> Option<ObjectId> {
        let mut bytes = [0; 12];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Some(ObjectId::from_bytes(bytes))
    }

    #[test]
    fn each_service_has_a_generation_of_its_own() {
        let mut pool = Pool::default();
        assert_eq!((pool.clear(service(1)), pool.clear(service(1))), (1, 2));
        assert_eq!(pool.generation(service(1)), 2);
        assert_eq!((pool.generation(service(2)), pool.generation(None)), (0, 0));
    }

    #[test]
    fn no_more_services_are_remembered_than_the_limit() {
        let mut pool = Pool::default();
        for number in 0..2_000 {
            pool.clear(service(number));
        }
        assert_eq!(pool.services.len(), MAX_SERVICES);
        assert_eq!(pool.generation(service(1_999)), 1);
    }
}
