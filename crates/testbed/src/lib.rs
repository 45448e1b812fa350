//! Real mongod deployments, a fault proxy and a scripted server for tests.

pub mod cluster;
pub mod connection;
pub mod fetch;
pub mod home;
pub mod mongod;
pub mod proxy;
pub mod scripted;
pub mod specs;
