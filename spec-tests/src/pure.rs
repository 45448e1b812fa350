//! The suites that need no server.

pub mod concern;
pub mod credential;
pub mod dns;
pub mod sdam;
pub mod seedlist;
pub mod selection;
pub mod uri;
pub mod uri_options;
