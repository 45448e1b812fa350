//! The wire codec against what others make of the protocol: a real server, and PyMongo.

mod interop;
mod peer;
mod proxy;
mod pymongo;
mod python;
