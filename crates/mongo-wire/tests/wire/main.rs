//! Tests of the crate from outside, as one program.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod allocations;
mod common;
mod properties;
