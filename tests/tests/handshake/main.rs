//! Authentication and compression: against a real replica set with access control, and against
//! scripted servers for what it cannot show.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod authentication;
mod aws;
mod cloud;
mod compression;
mod deployment;
mod oidc;
mod oidc_human;
mod oidc_server;
mod reauthentication;
mod scripted;
mod server_api;

use integration_tests::{PATIENCE, within};
