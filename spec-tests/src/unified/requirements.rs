//! Whether a deployment is one that a case is meant for.

use bson::Bson;

use super::deployment::{Deployment, TopologyKind};
use super::matching::{Lookup, Matcher};
use super::schema::{Csfle, Requirement, RequirementFields, Serverless, TopologyName};

/// Tells why not, unless one of the alternatives holds; where there are none, all is well.
pub(super) fn met(alternatives: &[Requirement], deployment: &Deployment) -> Result<(), String> {
    let mut reasons = Vec::new();
    for Requirement(requirement) in alternatives {
        let unmet = unmet(requirement, deployment);
        if unmet.is_empty() {
            return Ok(());
        }
        let reason = unmet.join(" and ");
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(format!("needs {}", reasons.join(", or ")))
}

/// What the deployment lacks.
fn unmet(requirement: &RequirementFields, deployment: &Deployment) -> Vec<String> {
    let mut unmet = Vec::new();
    if let Some(topologies) = &requirement.topologies {
        let fits = |name: &TopologyName| fits(*name, deployment.topology);
        if !topologies.iter().any(fits) {
            let names: Vec<_> = topologies.iter().map(|name| topology_name(*name)).collect();
            unmet.push(names.join(" or "));
        }
    }
    let version = deployment.server_version;
    if let Some(least) = requirement
        .min_server_version
        .filter(|least| version < least.0)
    {
        unmet.push(format!("server {} or later", least.0));
    }
    if let Some(most) = requirement
        .max_server_version
        .filter(|most| version > most.0)
    {
        unmet.push(format!("server {} or earlier", most.0));
    }
    match requirement.auth {
        Some(true) if !deployment.auth => unmet.push("authentication".to_owned()),
        Some(false) if deployment.auth => unmet.push("no authentication".to_owned()),
        _ => {}
    }
    if let Some(mechanism) = &requirement.auth_mechanism
        && !has_mechanism(mechanism, deployment)
    {
        unmet.push(format!("the mechanism {mechanism}"));
    }
    for (name, value) in requirement.server_parameters.iter().flat_map(|all| &all.0) {
        if !has_parameter(name, value, deployment) {
            unmet.push(format!("the server parameter {name}={value}"));
        }
    }
    if requirement.serverless == Some(Serverless::Require) {
        unmet.push("Atlas Serverless".to_owned());
    }
    if matches!(
        requirement.csfle,
        Some(Csfle::Flag(true) | Csfle::Version(_))
    ) {
        unmet.push("client-side encryption".to_owned());
    }
    unmet
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

struct NoEntities;

impl Lookup for NoEntities {
    fn value(&self, _: &str) -> Option<Bson> {
        None
    }

    fn lsid(&self, _: &str) -> Option<Bson> {
        None
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use serde_json::json;
    use testbed::mongod::Version;

    use super::*;

    fn check(alternatives: serde_json::Value, deployment: &Deployment) -> Result<(), String> {
        let alternatives: Vec<Requirement> = serde_json::from_value(alternatives).unwrap();
        met(&alternatives, deployment)
    }

    #[test]
    fn requirements_are_met_by_the_table() {
        let deployment = Deployment {
            uri: "mongodb://a/".to_owned(),
            uri_single: None,
            uri_multiple: None,
            topology: TopologyKind::ReplicaSet,
            server_version: Version::new(6, 0, 27),
            auth: false,
            server_parameters: doc! {
                "enableTestCommands": true,
                "acceptApiVersion2": 1.0,
                "authenticationMechanisms": ["SCRAM-SHA-1"],
            },
        };
        let sharded = "needs a sharded cluster";
        let table = [
            (json!([]), Ok(())),
            (json!([{ "minServerVersion": "6.0" }]), Ok(())),
            (
                json!([{ "minServerVersion": "6.0.28" }]),
                Err("needs server 6.0.28 or later"),
            ),
            (json!([{ "maxServerVersion": "6.0.27" }]), Ok(())),
            (
                json!([{ "maxServerVersion": "6.0" }]),
                Err("needs server 6.0.0 or earlier"),
            ),
            (json!([{ "topologies": ["single", "replicaset"] }]), Ok(())),
            (json!([{ "topologies": ["sharded"] }]), Err(sharded)),
            (
                json!([{ "topologies": ["sharded"] }, { "auth": false }]),
                Ok(()),
            ),
            (
                json!([{ "topologies": ["sharded"] }, { "topologies": ["sharded-replicaset"] }]),
                Err(sharded),
            ),
            (json!([{ "auth": true }]), Err("needs authentication")),
            (json!([{ "authMechanism": "scram-sha-1" }]), Ok(())),
            (
                json!([{ "authMechanism": "PLAIN" }]),
                Err("needs the mechanism PLAIN"),
            ),
            (
                json!([{ "serverParameters": { "acceptApiVersion2": 1 } }]),
                Ok(()),
            ),
            (
                json!([{ "serverParameters": { "other": 1 } }]),
                Err("needs the server parameter other=1"),
            ),
            (
                json!([{ "serverless": "forbid" }, { "auth": true }]),
                Ok(()),
            ),
            (
                json!([{ "serverless": "require" }]),
                Err("needs Atlas Serverless"),
            ),
            (json!([{ "csfle": false }]), Ok(())),
            (
                json!([{ "csfle": true }]),
                Err("needs client-side encryption"),
            ),
        ];
        for (alternatives, expected) in table {
            let result = check(alternatives.clone(), &deployment);
            assert_eq!(result, expected.map_err(str::to_owned), "{alternatives}");
        }
    }
}
