//! The wire codec against what others make of the protocol: a real server, and PyMongo.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod interop;
mod peer;
mod proxy;
mod pymongo;
mod python;
