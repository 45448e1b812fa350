//! The suites that need no server.

use libtest_mimic::Trial;

use crate::case::{Loader, trials};
use crate::dir::SpecDir;

pub mod uri;

/// Every suite with the function that loads it.
pub const SUITES: &[(&str, Loader)] = &[
    ("connection-string", uri::cases),
    ("uri-options", uri::cases),
];

/// All cases as named tests.
pub fn all(dir: &SpecDir) -> Vec<Trial> {
    SUITES
        .iter()
        .flat_map(|(suite, load)| trials(dir, suite, *load))
        .collect()
}
