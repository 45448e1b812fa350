//! The deployments that the runner can start for the cases of the unified test format.
//!
//! [`KINDS`] is an order of preference. What a kind offers is known before one is started
//! ([`Kind::profile`]), so that only those are started which a case asks for.

mod local;
mod probe;

use anyhow::Result;
use bson::doc;
use testbed::mongod::{Binary, ServerVersion};

pub use self::local::Running;
pub use self::probe::probe;
use crate::unified::{Deployment, TopologyKind};

/// A deployment that can be started on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What people call it.
    pub name: &'static str,
    /// How its servers are arranged.
    pub shape: Shape,
    /// Which servers.
    pub version: ServerVersion,
    /// Whether clients have to authenticate.
    pub auth: bool,
    /// Whether it takes version 2 of the Stable API, which only tests use.
    pub accepts_api_version_2: bool,
    /// The files that it is for, as suite and file; all if there is none.
    pub only_for: &'static [(&'static str, &'static str)],
}

/// How servers are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A replica set of so many members.
    ReplicaSet(usize),
    /// A server outside any replica set.
    Standalone,
    /// A relay that looks like a mongos, and a second one for cases that ask for several, before a
    /// replica set of one member.
    Sharded,
    /// A relay that looks like a load balancer before one mongos, and another before two, before a
    /// replica set of one member.
    LoadBalanced,
}

const fn kind(name: &'static str, shape: Shape, version: ServerVersion) -> Kind {
    Kind {
        name,
        shape,
        version,
        auth: false,
        accepts_api_version_2: false,
        only_for: &[],
    }
}

/// Files that ask for members that take over, or count members, without saying so in their
/// requirements.
const THREE_MEMBERS: &[(&str, &str)] = &[
    ("sdam/unified", "logging-replicaset"),
    (
        "sdam/unified",
        "replicaset-emit-topology-changed-before-close",
    ),
    ("sdam/unified", "rediscover-quickly-after-step-down"),
    ("server-selection/logging", "replica-set"),
];

/// All kinds, the preferred ones first.
pub const KINDS: &[Kind] = {
    use Shape::{LoadBalanced, ReplicaSet, Sharded, Standalone};
    &[
        Kind {
            only_for: THREE_MEMBERS,
            ..kind("replica set of 3", ReplicaSet(3), ServerVersion::Default)
        },
        kind("replica set", ReplicaSet(1), ServerVersion::Default),
        Kind {
            auth: true,
            ..kind("replica set, auth", ReplicaSet(1), ServerVersion::Default)
        },
        kind("standalone", Standalone, ServerVersion::Default),
        Kind {
            auth: true,
            ..kind("standalone, auth", Standalone, ServerVersion::Default)
        },
        Kind {
            accepts_api_version_2: true,
            ..kind("replica set, API 2", ReplicaSet(1), ServerVersion::Default)
        },
        kind("replica set of 5.0", ReplicaSet(1), ServerVersion::V5_0),
        kind("replica set of 4.4", ReplicaSet(1), ServerVersion::V4_4),
        kind("replica set of 4.2", ReplicaSet(1), ServerVersion::V4_2),
        kind("standalone of 4.4", Standalone, ServerVersion::V4_4),
        kind("standalone of 4.2", Standalone, ServerVersion::V4_2),
        kind("sharded, relayed", Sharded, ServerVersion::Default),
        kind("balanced, relayed", LoadBalanced, ServerVersion::Default),
        Kind {
            auth: true,
            ..kind(
                "balanced, auth, relayed",
                LoadBalanced,
                ServerVersion::Default,
            )
        },
    ]
};

impl Kind {
    /// Whether it is for a file at all.
    #[must_use]
    pub fn is_for(&self, suite: &str, file: &str) -> bool {
        self.only_for.is_empty() || self.only_for.contains(&(suite, file))
    }

    /// What it is like when it runs; it has no address yet.
    ///
    /// # Errors
    /// There is no such server for this machine.
    pub fn profile(&self) -> Result<Deployment> {
        Ok(Deployment {
            uri: String::new(),
            uri_single: None,
            uri_multiple: None,
            topology: match self.shape {
                Shape::ReplicaSet(_) => TopologyKind::ReplicaSet,
                Shape::Standalone => TopologyKind::Single,
                Shape::Sharded => TopologyKind::Sharded,
                Shape::LoadBalanced => TopologyKind::LoadBalanced,
            },
            server_version: Binary::locate(self.version)?.version(),
            auth: self.auth,
            server_parameters: doc! {
                "enableTestCommands": true,
                "requireApiVersion": false,
                "acceptApiVersion2": self.accepts_api_version_2,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn names_of_kinds_differ() {
        for (index, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..index].iter().all(|other| other.name != kind.name));
        }
    }

    #[test]
    fn a_kind_is_what_its_profile_says() {
        for kinds in KINDS.chunks(4) {
            thread::scope(|scope| {
                for kind in kinds {
                    scope.spawn(|| is_what_its_profile_says(kind));
                }
            });
        }
    }

    fn is_what_its_profile_says(kind: &Kind) {
        let profile = kind.profile().unwrap();
        let running = kind.start().unwrap();
        let actual = running.deployment();
        let facts = |deployment: &Deployment| {
            (
                deployment.topology,
                deployment.server_version,
                deployment.auth,
            )
        };
        assert_eq!(facts(actual), facts(&profile), "{}", kind.name);
        for (name, value) in &profile.server_parameters {
            // Servers before 5.0 know nothing of the Stable API.
            let known = actual.server_parameters.get(name);
            assert!(known.is_none_or(|known| known == value), "{}", kind.name);
        }
    }
}
