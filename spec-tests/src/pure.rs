//! The suites that need no server.

use libtest_mimic::Trial;

use crate::case::{Loader, trials};
use crate::dir::SpecDir;

pub mod concern;
pub mod credential;
pub mod dns;
pub mod sdam;
pub mod seedlist;
pub mod selection;
pub mod uri;
pub mod uri_options;

/// Every suite with the function that loads it.
pub const SUITES: &[(&str, Loader)] = &[
    ("connection-string", uri::cases),
    ("uri-options", uri::cases),
    ("auth/legacy", credential::cases),
    (
        "read-write-concern/connection-string",
        concern::connection_string_cases,
    ),
    ("read-write-concern/document", concern::document_cases),
    ("seedlist/replica-set", seedlist::replica_set_cases),
    ("seedlist/load-balanced", seedlist::mongos_cases),
    ("seedlist/sharded", seedlist::mongos_cases),
    ("sdam/single", sdam::cases),
    ("sdam/rs", sdam::cases),
    ("sdam/sharded", sdam::cases),
    ("sdam/load-balanced", sdam::cases),
    ("sdam/errors", sdam::cases),
    ("sdam/monitoring", sdam::cases),
    ("server-selection/logic", selection::logic),
    ("server-selection/in_window", selection::in_window),
    ("server-selection/rtt", selection::rtt),
    ("max-staleness", selection::logic),
];

/// All cases as named tests.
pub fn all(dir: &SpecDir) -> Vec<Trial> {
    SUITES
        .iter()
        .flat_map(|(suite, load)| trials(dir, suite, *load))
        .collect()
}
