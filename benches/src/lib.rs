//! What the benchmarks measure with: messages of several sizes, and topologies of several widths.
//!
//! `cargo xtask bench` runs them all and holds the results against each other and against the
//! goals. A benchmark's name is `group/case`; those that are compared share the case. What
//! is measured is processor time, as a benchmark seldom has a machine to itself.

pub mod cpu_time;
pub mod deployments;
pub mod messages;
pub mod pairs;
