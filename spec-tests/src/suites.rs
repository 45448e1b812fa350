//! The suites, by their names, which are paths: a name stands for itself and all below it.

use anyhow::{Result, ensure};

use self::Format::{Alone, Unified, UnifiedFailing};
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
    /// Where its files are.
    pub folders: Folders,
}

/// The folder of a suite in either layout.
#[derive(Clone, Copy, Debug)]
pub struct Folders {
    /// Below `source` of mongodb/specifications.
    pub specifications: &'static str,
    /// Below `test` of PyMongo, unless it has no copy.
    pub pymongo: Option<&'static str>,
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

const fn suite(
    name: &'static str,
    format: Format,
    specifications: &'static str,
    pymongo: Option<&'static str>,
) -> Suite {
    let folders = Folders {
        specifications,
        pymongo,
    };
    Suite {
        name,
        format,
        folders,
    }
}

/// Every suite.
#[rustfmt::skip]
pub const SUITES: &[Suite] = &[
    suite("connection-string", Alone(uri::cases), "connection-string/tests", Some("connection_string/test")),
    suite("uri-options", Alone(uri::cases), "uri-options/tests", Some("uri_options")),
    suite("auth/legacy", Alone(credential::cases), "auth/tests/legacy", Some("auth/legacy")),
    suite("auth/unified", Unified, "auth/tests/unified", Some("auth/unified")),
    suite("read-write-concern/connection-string", Alone(concern::connection_string_cases), "read-write-concern/tests/connection-string", Some("read_write_concern/connection-string")),
    suite("read-write-concern/document", Alone(concern::document_cases), "read-write-concern/tests/document", Some("read_write_concern/document")),
    suite("read-write-concern/operation", Unified, "read-write-concern/tests/operation", Some("read_write_concern/operation")),
    suite("seedlist/replica-set", Alone(seedlist::replica_set_cases), "initial-dns-seedlist-discovery/tests/replica-set", Some("srv_seedlist/replica-set")),
    suite("seedlist/load-balanced", Alone(seedlist::mongos_cases), "initial-dns-seedlist-discovery/tests/load-balanced", Some("srv_seedlist/load-balanced")),
    suite("seedlist/sharded", Alone(seedlist::mongos_cases), "initial-dns-seedlist-discovery/tests/sharded", Some("srv_seedlist/sharded")),
    suite("sdam/single", Alone(sdam::cases), "server-discovery-and-monitoring/tests/single", Some("discovery_and_monitoring/single")),
    suite("sdam/rs", Alone(sdam::cases), "server-discovery-and-monitoring/tests/rs", Some("discovery_and_monitoring/rs")),
    suite("sdam/sharded", Alone(sdam::cases), "server-discovery-and-monitoring/tests/sharded", Some("discovery_and_monitoring/sharded")),
    suite("sdam/load-balanced", Alone(sdam::cases), "server-discovery-and-monitoring/tests/load-balanced", Some("discovery_and_monitoring/load-balanced")),
    suite("sdam/errors", Alone(sdam::cases), "server-discovery-and-monitoring/tests/errors", Some("discovery_and_monitoring/errors")),
    suite("sdam/monitoring", Alone(sdam::cases), "server-discovery-and-monitoring/tests/monitoring", Some("sdam_monitoring")),
    suite("sdam/unified", Unified, "server-discovery-and-monitoring/tests/unified", Some("discovery_and_monitoring/unified")),
    suite("server-selection/logic", Alone(selection::logic), "server-selection/tests/server_selection", Some("server_selection/server_selection")),
    suite("server-selection/in_window", Alone(selection::in_window), "server-selection/tests/in_window", Some("server_selection/in_window")),
    suite("server-selection/rtt", Alone(selection::rtt), "server-selection/tests/rtt", Some("server_selection/rtt")),
    suite("server-selection/logging", Unified, "server-selection/tests/logging", Some("server_selection_logging")),
    suite("max-staleness", Alone(selection::logic), "max-staleness/tests", Some("max_staleness")),
    suite("cmap/cmap-format", Alone(cmap::cases), "connection-monitoring-and-pooling/tests/cmap-format", Some("connection_monitoring")),
    suite("cmap/logging", Unified, "connection-monitoring-and-pooling/tests/logging", Some("connection_logging")),
    suite("command/monitoring", Unified, "command-logging-and-monitoring/tests/monitoring", Some("command_monitoring")),
    suite("command/logging", Unified, "command-logging-and-monitoring/tests/logging", Some("command_logging")),
    suite("handshake", Unified, "mongodb-handshake/tests/unified", Some("handshake/unified")),
    suite("run-command", Unified, "run-command/tests/unified", Some("run_command/unified")),
    suite("sessions", Unified, "sessions/tests", Some("sessions")),
    suite("causal-consistency", Unified, "causal-consistency/tests", Some("causal_consistency")),
    suite("versioned-api", Unified, "versioned-api/tests", Some("versioned-api")),
    suite("retryable-reads", Unified, "retryable-reads/tests/unified", Some("retryable_reads/unified")),
    suite("retryable-writes", Unified, "retryable-writes/tests/unified", Some("retryable_writes/unified")),
    suite("csot", Unified, "client-side-operations-timeout/tests", Some("csot")),
    suite("client-backpressure", Unified, "client-backpressure/tests", Some("client-backpressure")),
    suite("load-balancers", Unified, "load-balancers/tests", Some("load_balancer")),
    suite("open-telemetry", Unified, "open-telemetry/tests", None),
    suite("change-streams", Unified, "change-streams/tests/unified", Some("change_streams/unified")),
    suite("unified-format/valid-pass", Unified, "unified-test-format/tests/valid-pass", Some("unified-test-format/valid-pass")),
    suite("unified-format/valid-fail", UnifiedFailing, "unified-test-format/tests/valid-fail", Some("unified-test-format/valid-fail")),
    suite("unified-format/invalid", Alone(invalid::cases), "unified-test-format/tests/invalid", Some("unified-test-format/invalid")),
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
}
