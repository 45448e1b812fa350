//! A client's state for people: what is known of the deployment, its pools, and what failed last.

use std::fmt;

use super::{Snapshot, Topology};

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshots.borrow().clone();
        write!(f, "topology {}", self.id())?;
        if snapshot.closed {
            f.write_str(" (shut down)")?;
        }
        write!(f, ": {snapshot}")
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.description)?;
        for (address, pool) in self.pools.iter() {
            write!(f, "\npool of {address}: {pool}")?;
        }
        for (server, error) in self.failures.iter() {
            write!(f, "\nlast check of {server}: {error}")?;
        }
        Ok(())
    }
}
