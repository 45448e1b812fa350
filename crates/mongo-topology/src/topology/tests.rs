//! The machine's rules, one test each, driven through its public face.

mod closing;
mod errors;
mod failover;
mod monitoring;
mod properties;
mod rtt;
mod srv;
mod world;
