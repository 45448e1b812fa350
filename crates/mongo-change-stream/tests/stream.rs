//! The rules of the change streams specification, one table each, and the machine against a model
//! of the oplog. Rule numbers are those of the project's reading of the specification: A commands,
//! B getMore and killCursors, C resumable errors, D resume, E tokens.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in helpers too"
)]

#[path = "stream/checkpoints.rs"]
mod checkpoints;
#[path = "stream/closing.rs"]
mod closing;
#[path = "stream/commands.rs"]
mod commands;
#[path = "stream/errors.rs"]
mod errors;
#[path = "stream/events.rs"]
mod events;
#[path = "stream/exhaust.rs"]
mod exhaust;
#[path = "stream/filters.rs"]
mod filters;
#[path = "stream/harness.rs"]
mod harness;
#[path = "stream/lapses.rs"]
mod lapses;
#[path = "stream/model.rs"]
mod model;
#[path = "stream/oplog.rs"]
mod oplog;
#[path = "stream/pacing.rs"]
mod pacing;
#[path = "stream/policies.rs"]
mod policies;
#[path = "stream/resume.rs"]
mod resume;
#[path = "stream/tokens.rs"]
mod tokens;
