//! mongo-topology.
