//! Where the specification tests lie.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::json;

/// How the folders of the suites are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A checkout of `mongodb/specifications`: `source/<spec>/tests/...`.
    Specifications,
    /// PyMongo's source distribution: `test/...`.
    PyMongo,
}

/// The folder of each suite in either layout: suite, path below `source`, path below `test`, which
/// is empty where PyMongo has no copy.
#[rustfmt::skip]
pub const FOLDERS: &[(&str, &str, &str)] = &[
    ("connection-string", "connection-string/tests", "connection_string/test"),
    ("uri-options", "uri-options/tests", "uri_options"),
    ("auth/legacy", "auth/tests/legacy", "auth/legacy"),
    ("auth/unified", "auth/tests/unified", "auth/unified"),
    ("read-write-concern/connection-string", "read-write-concern/tests/connection-string", "read_write_concern/connection-string"),
    ("read-write-concern/document", "read-write-concern/tests/document", "read_write_concern/document"),
    ("read-write-concern/operation", "read-write-concern/tests/operation", "read_write_concern/operation"),
    ("seedlist/replica-set", "initial-dns-seedlist-discovery/tests/replica-set", "srv_seedlist/replica-set"),
    ("seedlist/load-balanced", "initial-dns-seedlist-discovery/tests/load-balanced", "srv_seedlist/load-balanced"),
    ("seedlist/sharded", "initial-dns-seedlist-discovery/tests/sharded", "srv_seedlist/sharded"),
    ("sdam/single", "server-discovery-and-monitoring/tests/single", "discovery_and_monitoring/single"),
    ("sdam/rs", "server-discovery-and-monitoring/tests/rs", "discovery_and_monitoring/rs"),
    ("sdam/sharded", "server-discovery-and-monitoring/tests/sharded", "discovery_and_monitoring/sharded"),
    ("sdam/load-balanced", "server-discovery-and-monitoring/tests/load-balanced", "discovery_and_monitoring/load-balanced"),
    ("sdam/errors", "server-discovery-and-monitoring/tests/errors", "discovery_and_monitoring/errors"),
    ("sdam/monitoring", "server-discovery-and-monitoring/tests/monitoring", "sdam_monitoring"),
    ("sdam/unified", "server-discovery-and-monitoring/tests/unified", "discovery_and_monitoring/unified"),
    ("server-selection/logic", "server-selection/tests/server_selection", "server_selection/server_selection"),
    ("server-selection/in_window", "server-selection/tests/in_window", "server_selection/in_window"),
    ("server-selection/rtt", "server-selection/tests/rtt", "server_selection/rtt"),
    ("server-selection/logging", "server-selection/tests/logging", "server_selection_logging"),
    ("max-staleness", "max-staleness/tests", "max_staleness"),
    ("cmap/cmap-format", "connection-monitoring-and-pooling/tests/cmap-format", "connection_monitoring"),
    ("cmap/logging", "connection-monitoring-and-pooling/tests/logging", "connection_logging"),
    ("command/monitoring", "command-logging-and-monitoring/tests/monitoring", "command_monitoring"),
    ("command/logging", "command-logging-and-monitoring/tests/logging", "command_logging"),
    ("handshake", "mongodb-handshake/tests/unified", "handshake/unified"),
    ("run-command", "run-command/tests/unified", "run_command/unified"),
    ("sessions", "sessions/tests", "sessions"),
    ("causal-consistency", "causal-consistency/tests", "causal_consistency"),
    ("versioned-api", "versioned-api/tests", "versioned-api"),
    ("retryable-reads", "retryable-reads/tests/unified", "retryable_reads/unified"),
    ("retryable-writes", "retryable-writes/tests/unified", "retryable_writes/unified"),
    ("csot", "client-side-operations-timeout/tests", "csot"),
    ("client-backpressure", "client-backpressure/tests", "client-backpressure"),
    ("load-balancers", "load-balancers/tests", "load_balancer"),
    ("open-telemetry", "open-telemetry/tests", ""),
    ("change-streams", "change-streams/tests/unified", "change_streams/unified"),
    ("unified-format/valid-pass", "unified-test-format/tests/valid-pass", "unified-test-format/valid-pass"),
    ("unified-format/valid-fail", "unified-test-format/tests/valid-fail", "unified-test-format/valid-fail"),
    ("unified-format/invalid", "unified-test-format/tests/invalid", "unified-test-format/invalid"),
];

/// The root of a set of specification tests.
#[derive(Clone, Debug)]
pub struct SpecDir {
    root: PathBuf,
    layout: Layout,
}

/// One JSON file of a suite.
#[derive(Clone, Debug)]
pub struct SpecFile {
    /// The path below the suite's folder, without the extension and with `/` between folders.
    pub name: String,
    /// Where the file lies.
    pub path: PathBuf,
}

impl SpecFile {
    /// The file's content.
    pub fn json(&self) -> Result<Value> {
        json::load(&self.path)
    }
}

impl SpecDir {
    /// The pinned set, fetched once.
    ///
    /// # Errors
    ///
    /// If it cannot be fetched.
    pub fn obtain() -> Result<Self> {
        Self::open(&testbed::specs::obtain()?)
    }

    /// Takes the root of either layout, or the folder above it.
    ///
    /// # Errors
    ///
    /// If `folder` looks like neither.
    pub fn open(folder: &Path) -> Result<Self> {
        let marks = [
            ("", "connection-string/tests", Layout::Specifications),
            ("source", "connection-string/tests", Layout::Specifications),
            ("", "connection_string/test", Layout::PyMongo),
            ("test", "connection_string/test", Layout::PyMongo),
        ];
        for (below, mark, layout) in marks {
            let root = folder.join(below);
            if root.join(mark).is_dir() {
                return Ok(Self { root, layout });
            }
        }
        bail!(
            "{} is neither a checkout of mongodb/specifications nor a source distribution of PyMongo",
            folder.display()
        )
    }

    /// Which layout was found.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether this layout has a copy of the suite at all.
    #[must_use]
    pub fn carries(&self, suite: &str) -> bool {
        let pymongo = self.layout == Layout::PyMongo;
        let missing = |(name, _, copy): &(&str, &str, &str)| *name == suite && copy.is_empty();
        !(pymongo && FOLDERS.iter().any(missing))
    }

    /// The folder of a suite.
    ///
    /// # Errors
    ///
    /// If [`FOLDERS`] does not know the suite.
    pub fn folder(&self, suite: &str) -> Result<PathBuf> {
        let Some((_, specifications, pymongo)) = FOLDERS.iter().find(|(name, ..)| *name == suite)
        else {
            bail!("no folder is known for suite {suite}");
        };
        Ok(self.root.join(match self.layout {
            Layout::Specifications => specifications,
            Layout::PyMongo => pymongo,
        }))
    }

    /// The JSON files of a suite, folders below it included, sorted by name.
    ///
    /// # Errors
    ///
    /// If there is none, for then the suite would prove nothing.
    pub fn files(&self, suite: &str) -> Result<Vec<SpecFile>> {
        let folder = self.folder(suite)?;
        let mut files = Vec::new();
        collect(&folder, "", &mut files).with_context(|| folder.display().to_string())?;
        if files.is_empty() {
            bail!("{} holds no JSON file", folder.display());
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<SpecFile>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        let name = format!("{prefix}{stem}");
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(SpecFile { name, path });
        }
    }
    Ok(())
}
