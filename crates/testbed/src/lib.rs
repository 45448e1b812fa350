//! Real mongod deployments, a fault proxy and a scripted server for tests.

pub mod fetch;
pub mod specs;
