//! Whether the client and every server share a wire version (SDAM, "Checking wire protocol
//! compatibility").

use super::Servers;
use crate::server::ServerDescription;

/// The oldest wire version spoken here: MongoDB 4.2.
pub const MIN_WIRE_VERSION: i32 = 8;
/// The newest wire version spoken here: MongoDB 8.2.
pub const MAX_WIRE_VERSION: i32 = 27;
/// The server release that brought [`MIN_WIRE_VERSION`], for the error message.
const MIN_SERVER_RELEASE: &str = "4.2";

/// The complaint about the first server, by address, that is out of range.
pub(super) fn error_of(servers: &Servers) -> Option<String> {
    servers.iter().find_map(|server| complaint(server))
}

fn complaint(server: &ServerDescription) -> Option<String> {
    let versions = server.reply()?.wire_versions;
    let address = server.address();
    if versions.min > MAX_WIRE_VERSION {
        Some(format!(
            "Server at {address} requires wire version {}, but this version of mongo-topology only \
             supports up to {MAX_WIRE_VERSION}.",
            versions.min
        ))
    } else if versions.max < MIN_WIRE_VERSION {
        Some(format!(
            "Server at {address} reports wire version {}, but this version of mongo-topology \
             requires at least {MIN_WIRE_VERSION} (MongoDB {MIN_SERVER_RELEASE}).",
            versions.max
        ))
    } else {
        None
    }
}
