//! The services behind a load balancer, as one pool knows them (Connection Monitoring and Pooling,
//! "Load Balancer Mode").

use std::collections::BTreeMap;

use bson::oid::ObjectId;

/// How many services without connections are remembered because they were cleared.
const MAX_IDLE_SERVICES: usize = 1_024;

/// Generation and number of connections of each service.
///
/// The specification forgets a service with its last connection. Here a service that was once
/// cleared is remembered, within a bound: the topology goes on counting its generations, and would
/// take errors of a new connection that begins again at 0 for old news.
#[derive(Debug, Default)]
pub(super) struct Services(BTreeMap<ObjectId, Service>);

#[derive(Debug, Default)]
struct Service {
    generation: u64,
    connections: usize,
}

impl Services {
    /// Counts a new connection; its generation.
    pub(super) fn join(&mut self, id: ObjectId) -> u64 {
        let service = self.0.entry(id).or_default();
        service.connections += 1;
        service.generation
    }

    /// Counts a connection that is closed.
    pub(super) fn leave(&mut self, id: ObjectId) {
        if let Some(service) = self.0.get_mut(&id) {
            service.connections -= 1;
            if service.connections == 0 && service.generation == 0 {
                self.0.remove(&id);
            }
        }
    }

    /// Clears a service; false when that is old news.
    pub(super) fn clear(&mut self, id: ObjectId, generation: u64) -> bool {
        let service = self.0.entry(id).or_default();
        let is_news = generation > service.generation;
        service.generation = service.generation.max(generation);
        self.forget_some(id);
        is_news
    }

    /// The generation of a service's connections; 0 for one that is not known.
    pub(super) fn generation(&self, id: ObjectId) -> u64 {
        self.0.get(&id).map_or(0, |service| service.generation)
    }

    /// Each with its generation and the number of its connections.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ObjectId, u64, usize)> + '_ {
        let services = self.0.iter();
        services.map(|(id, service)| (*id, service.generation, service.connections))
    }

    fn forget_some(&mut self, but: ObjectId) {
        if self.0.len() > MAX_IDLE_SERVICES {
            self.0
                .retain(|id, service| *id == but || service.connections > 0);
        }
    }

    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.0.values().map(|service| service.connections).sum()
    }
}
