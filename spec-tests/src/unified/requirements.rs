//! Whether a deployment is one that a case is meant for, and what it would need.

use std::collections::BTreeSet;
use std::fmt;

use bson::Bson;
use testbed::mongod::Version;

use super::deployment::{Deployment, TopologyKind};
use super::matching::{Matcher, NoEntities};
use super::schema::{Csfle, Requirement, RequirementFields, Serverless, TopologyName};

/// Whether one of the alternatives holds; where there are none, all is well.
pub(super) fn are_met(alternatives: &[Requirement], deployment: &Deployment) -> bool {
    let holds = |Requirement(requirement): &Requirement| {
        asks(requirement)
            .iter()
            .all(|ask| ask.is_met_by(deployment))
    };
    alternatives.is_empty() || alternatives.iter().any(holds)
}

/// What a case would need whose requirements, a list of alternatives each, none of the deployments
/// meets: those parts that no deployment has, or all if each is there but nowhere together.
pub(super) fn lacking(lists: [&[Requirement]; 2], deployments: &[&Deployment]) -> String {
    let is_nowhere = |ask: &&Ask| !deployments.iter().any(|one| ask.is_met_by(one));
    let (mut lacking, mut all) = (Vec::new(), Vec::new());
    for list in lists.into_iter().filter(|list| !list.is_empty()) {
        let list: Vec<_> = list.iter().map(|Requirement(one)| asks(one)).collect();
        // An alternative that lacks nothing by itself asks for nothing.
        if list
            .iter()
            .all(|asks| asks.iter().any(|ask| is_nowhere(&ask)))
        {
            let missing = list.iter().map(|asks| asks.iter().filter(is_nowhere));
            lacking.push(missing.map(join).collect());
        }
        all.push(list.iter().map(|asks| join(asks.iter())).collect());
    }
    let lists = if lacking.is_empty() { all } else { lacking };
    format!("needs {}", conjunction(lists))
}

/// Joins lists of alternatives, each of which has to be met. One is implied when another one asks
/// for one of its alternatives alone.
fn conjunction(mut lists: Vec<BTreeSet<String>>) -> String {
    lists.sort();
    lists.sort_by_key(BTreeSet::len);
    let mut kept: Vec<BTreeSet<String>> = Vec::new();
    for list in lists {
        if !kept.iter().any(|shorter| shorter.is_subset(&list)) {
            kept.push(list);
        }
    }
    let texts = kept
        .into_iter()
        .map(|list| Vec::from_iter(list).join(", or "));
    Vec::from_iter(texts).join(" and ")
}

fn join<'a>(asks: impl Iterator<Item = &'a Ask<'a>>) -> String {
    let texts: Vec<_> = asks.map(Ask::to_string).collect();
    texts.join(", ")
}

/// One thing that a requirement asks for.
enum Ask<'a> {
    AtLeast(Version),
    AtMost(Version),
    Topologies(&'a [TopologyName]),
    Auth(bool),
    Mechanism(&'a str),
    Parameter(&'a str, &'a Bson),
    Serverless,
    Encryption,
}

fn asks(requirement: &RequirementFields) -> Vec<Ask<'_>> {
    let mut asks = Vec::new();
    asks.extend(
        requirement
            .min_server_version
            .map(|text| Ask::AtLeast(text.0)),
    );
    asks.extend(
        requirement
            .max_server_version
            .map(|text| Ask::AtMost(text.0)),
    );
    let topologies = requirement.topologies.as_deref();
    asks.extend(topologies.map(Ask::Topologies));
    asks.extend(requirement.auth.map(Ask::Auth));
    let mechanism = requirement.auth_mechanism.as_deref();
    asks.extend(mechanism.map(Ask::Mechanism));
    let parameters = requirement.server_parameters.iter().flat_map(|all| &all.0);
    asks.extend(parameters.map(|(name, value)| Ask::Parameter(name, value)));
    if requirement.serverless == Some(Serverless::Require) {
        asks.push(Ask::Serverless);
    }
    let encryption = &requirement.csfle;
    if matches!(encryption, Some(Csfle::Flag(true) | Csfle::Version(_))) {
        asks.push(Ask::Encryption);
    }
    asks
}

impl Ask<'_> {
    fn is_met_by(&self, deployment: &Deployment) -> bool {
        match self {
            Self::AtLeast(version) => deployment.server_version >= *version,
            Self::AtMost(version) => deployment.server_version <= *version,
            Self::Topologies(names) => names.iter().any(|name| fits(*name, deployment.topology)),
            Self::Auth(auth) => deployment.auth == *auth,
            Self::Mechanism(name) => has_mechanism(name, deployment),
            Self::Parameter(name, value) => has_parameter(name, value, deployment),
            // Nothing here has these.
            Self::Serverless | Self::Encryption => false,
        }
    }
}

impl fmt::Display for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(version) => write!(f, "a server of {version} or later"),
            Self::AtMost(version) => write!(f, "a server of {version} or earlier"),
            Self::Topologies(names) => {
                let names: Vec<_> = names.iter().map(|name| topology_name(*name)).collect();
                f.write_str(&names.join(" or "))
            }
            Self::Auth(true) => f.write_str("access control"),
            Self::Auth(false) => f.write_str("no access control"),
            Self::Mechanism(name) => write!(f, "the mechanism {name}"),
            Self::Parameter(name, value) => write!(f, "the server parameter {name}={value}"),
            Self::Serverless => f.write_str("Atlas Serverless"),
            Self::Encryption => f.write_str("client-side encryption"),
        }
    }
}

fn fits(name: TopologyName, kind: TopologyKind) -> bool {
    match name {
        TopologyName::Single => kind == TopologyKind::Single,
        TopologyName::ReplicaSet => kind == TopologyKind::ReplicaSet,
        TopologyName::Sharded | TopologyName::ShardedReplicaSet => kind == TopologyKind::Sharded,
        TopologyName::LoadBalanced => kind == TopologyKind::LoadBalanced,
    }
}

fn topology_name(name: TopologyName) -> &'static str {
    match name {
        TopologyName::Single => "a standalone",
        TopologyName::ReplicaSet => "a replica set",
        TopologyName::Sharded | TopologyName::ShardedReplicaSet => "a sharded cluster",
        TopologyName::LoadBalanced => "a load balancer",
    }
}

fn has_mechanism(wanted: &str, deployment: &Deployment) -> bool {
    let known = deployment
        .server_parameters
        .get_array("authenticationMechanisms");
    let mut known = known.into_iter().flatten().filter_map(Bson::as_str);
    known.any(|name| name.eq_ignore_ascii_case(wanted))
}

fn has_parameter(name: &str, value: &Bson, deployment: &Deployment) -> bool {
    let actual = deployment.server_parameters.get(name);
    actual.is_some() && Matcher::new(&NoEntities).root(value, actual).is_ok()
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use serde_json::{Value, json};

    use super::*;

    fn deployment(topology: TopologyKind) -> Deployment {
        Deployment {
            uri: "mongodb://a/".to_owned(),
            uri_single: None,
            uri_multiple: None,
            topology,
            server_version: Version::new(6, 0, 27),
            auth: false,
            server_parameters: doc! {
                "enableTestCommands": true,
                "acceptApiVersion2": 1.0,
                "authenticationMechanisms": ["SCRAM-SHA-1"],
            },
        }
    }

    fn requirements(list: Value) -> Vec<Requirement> {
        serde_json::from_value(list).unwrap()
    }

    #[test]
    fn requirements_are_met_by_the_table() {
        let deployment = deployment(TopologyKind::ReplicaSet);
        let sharded = "needs a sharded cluster";
        for (list, missing) in [
            (json!([]), None),
            (json!([{ "minServerVersion": "6.0" }]), None),
            (
                json!([{ "minServerVersion": "6.0.28" }]),
                Some("needs a server of 6.0.28 or later"),
            ),
            (json!([{ "maxServerVersion": "6.0.27" }]), None),
            (
                json!([{ "maxServerVersion": "6.0" }]),
                Some("needs a server of 6.0.0 or earlier"),
            ),
            (json!([{ "topologies": ["single", "replicaset"] }]), None),
            (json!([{ "topologies": ["sharded"] }]), Some(sharded)),
            (
                json!([{ "topologies": ["sharded"] }, { "auth": false }]),
                None,
            ),
            (
                json!([{ "topologies": ["sharded"] }, { "topologies": ["sharded-replicaset"] }]),
                Some(sharded),
            ),
            (json!([{ "auth": true }]), Some("needs access control")),
            (json!([{ "authMechanism": "scram-sha-1" }]), None),
            (
                json!([{ "authMechanism": "PLAIN" }]),
                Some("needs the mechanism PLAIN"),
            ),
            (
                json!([{ "serverParameters": { "acceptApiVersion2": 1 } }]),
                None,
            ),
            (
                json!([{ "serverParameters": { "other": 1 } }]),
                Some("needs the server parameter other=1"),
            ),
            (json!([{ "serverless": "forbid" }, { "auth": true }]), None),
            (
                json!([{ "serverless": "require" }]),
                Some("needs Atlas Serverless"),
            ),
            (json!([{ "csfle": false }]), None),
            (
                json!([{ "csfle": true }]),
                Some("needs client-side encryption"),
            ),
        ] {
            let requirements = requirements(list.clone());
            assert_eq!(
                are_met(&requirements, &deployment),
                missing.is_none(),
                "{list}"
            );
            if let Some(missing) = missing {
                assert_eq!(lacking([&requirements, &[]], &[&deployment]), missing);
            }
        }
    }

    #[test]
    fn what_nothing_has_is_named_and_if_each_is_somewhere_all_of_it() {
        let places = [TopologyKind::ReplicaSet, TopologyKind::Single].map(deployment);
        for (of_file, of_test, expected) in [
            (
                json!([{ "minServerVersion": "6.1", "topologies": ["replicaset"] }]),
                json!([]),
                "needs a server of 6.1.0 or later",
            ),
            (
                json!([{ "topologies": ["sharded"] }, { "csfle": true }]),
                json!([]),
                "needs a sharded cluster, or client-side encryption",
            ),
            (
                json!([{ "minServerVersion": "8.0" }]),
                json!([{ "minServerVersion": "8.0.0" }, { "auth": true }]),
                "needs a server of 8.0.0 or later",
            ),
            (
                json!([{ "topologies": ["sharded"], "serverless": "forbid" }]),
                json!([{ "maxServerVersion": "4.2.99" }]),
                "needs a server of 4.2.99 or earlier and a sharded cluster",
            ),
            (
                json!([{ "topologies": ["single"] }]),
                json!([{ "topologies": ["replicaset"] }]),
                "needs a replica set and a standalone",
            ),
        ] {
            let lists = [of_file, of_test].map(requirements);
            let places = places.each_ref();
            assert_eq!(lacking([&lists[0], &lists[1]], &places), expected);
        }
    }
}
