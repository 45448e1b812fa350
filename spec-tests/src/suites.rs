//! The suites, by their names, which are paths: a name stands for itself and all below it.

use anyhow::{Result, ensure};

use crate::case::Loader;
use crate::pure::{concern, credential, sdam, seedlist, selection, uri};
use crate::{cmap, invalid};

/// A suite.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// Its name.
    pub name: &'static str,
    /// Its format.
    pub format: Format,
}

/// What the files of a suite are.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// Cases that bring along what they run against.
    Alone(Loader),
    /// Cases of the unified test format.
    Unified,
    /// Cases of the unified test format that a runner must find wrong, for the right reason.
    UnifiedFailing,
}

const fn alone(name: &'static str, load: Loader) -> Suite {
    let format = Format::Alone(load);
    Suite { name, format }
}

const fn unified(name: &'static str) -> Suite {
    let format = Format::Unified;
    Suite { name, format }
}

/// Every suite.
pub const SUITES: &[Suite] = &[
    alone("connection-string", uri::cases),
    alone("uri-options", uri::cases),
    alone("auth/legacy", credential::cases),
    unified("auth/unified"),
    alone(
        "read-write-concern/connection-string",
        concern::connection_string_cases,
    ),
    alone("read-write-concern/document", concern::document_cases),
    unified("read-write-concern/operation"),
    alone("seedlist/replica-set", seedlist::replica_set_cases),
    alone("seedlist/load-balanced", seedlist::mongos_cases),
    alone("seedlist/sharded", seedlist::mongos_cases),
    alone("sdam/single", sdam::cases),
    alone("sdam/rs", sdam::cases),
    alone("sdam/sharded", sdam::cases),
    alone("sdam/load-balanced", sdam::cases),
    alone("sdam/errors", sdam::cases),
    alone("sdam/monitoring", sdam::cases),
    unified("sdam/unified"),
    alone("server-selection/logic", selection::logic),
    alone("server-selection/in_window", selection::in_window),
    alone("server-selection/rtt", selection::rtt),
    unified("server-selection/logging"),
    alone("max-staleness", selection::logic),
    alone("cmap/cmap-format", cmap::cases),
    unified("cmap/logging"),
    unified("command/monitoring"),
    unified("command/logging"),
    unified("handshake"),
    unified("run-command"),
    unified("sessions"),
    unified("causal-consistency"),
    unified("versioned-api"),
    unified("retryable-reads"),
    unified("retryable-writes"),
    unified("csot"),
    unified("client-backpressure"),
    unified("load-balancers"),
    unified("open-telemetry"),
    unified("change-streams"),
    unified("unified-format/valid-pass"),
    Suite {
        name: "unified-format/valid-fail",
        format: Format::UnifiedFailing,
    },
    alone("unified-format/invalid", invalid::cases),
];

/// The suites that `names` stand for; all if there is none.
///
/// # Errors
/// A name stands for no suite.
pub fn select(names: &[String]) -> Result<Vec<Suite>> {
    for name in names {
        let known = SUITES.iter().any(|suite| is_below(suite.name, name));
        ensure!(known, "no suite is named {name}");
    }
    let chosen =
        |suite: &&Suite| names.is_empty() || names.iter().any(|name| is_below(suite.name, name));
    Ok(SUITES.iter().filter(chosen).copied().collect())
}

fn is_below(suite: &str, name: &str) -> bool {
    let name = name.trim_end_matches('/');
    suite
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::FOLDERS;

    fn names(selected: &[&str]) -> Vec<&'static str> {
        let selected: Vec<String> = selected.iter().map(|&name| name.to_owned()).collect();
        let suites = select(&selected).unwrap();
        suites.iter().map(|suite| suite.name).collect()
    }

    #[test]
    fn a_name_selects_itself_and_all_below_it() {
        assert_eq!(names(&["csot"]), ["csot"]);
        assert_eq!(names(&["cmap"]), ["cmap/cmap-format", "cmap/logging"]);
        assert_eq!(names(&["auth/"]), ["auth/legacy", "auth/unified"]);
        assert_eq!(
            names(&["sessions", "cmap/logging"]),
            ["cmap/logging", "sessions"]
        );
        assert_eq!(names(&[]).len(), SUITES.len());
    }

    #[test]
    fn a_name_that_selects_nothing_is_refused() {
        for wrong in ["", "cma", "csot/deprecated", "sdam/rs/x"] {
            assert!(select(&[wrong.to_owned()]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_suite_has_a_folder_and_every_folder_a_suite() {
        let suites: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        let folders: Vec<&str> = FOLDERS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(suites, folders);
    }
}
