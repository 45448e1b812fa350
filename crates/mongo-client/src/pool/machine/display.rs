//! A pool for people, in one line.

use std::fmt;

use super::{ConnectionState, PoolMachine, PoolState};

impl fmt::Display for PoolMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            PoolState::Paused => "paused",
            PoolState::Ready => "ready",
            PoolState::Closed => "closed",
        };
        let entries = self.connections.values();
        let in_use = entries.filter(|entry| entry.state == ConnectionState::InUse);
        write!(
            f,
            "{state}, generation {}, {} connections in use, {} idle, {} being opened, {} waiting",
            self.generation,
            in_use.count(),
            self.available.len(),
            self.pending,
            self.waiters.len()
        )?;
        for (service, generation, connections) in self.services.iter() {
            write!(
                f,
                ", service {service}: generation {generation}, {connections} connections"
            )?;
        }
        Ok(())
    }
}
