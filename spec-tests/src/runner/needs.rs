//! What a case would need that no place has.

use std::collections::BTreeSet;

use bson::{Bson, Document};
use serde_json::Value;
use testbed::mongod::Version;

use super::Place;
use crate::json::{self, given};
use crate::unified::Deployment;

/// The reason for skipping a case whose `runOnRequirements` nothing meets: those parts of them that
/// nothing meets, or all if each is met somewhere but nowhere together.
pub(super) fn describe(file: &Value, test: &Value, places: &[Place]) -> String {
    let places: Vec<&Deployment> = places
        .iter()
        .filter_map(|place| match place {
            Place::Anywhere => None,
            Place::Local(_, deployment) | Place::Given(deployment) => Some(&**deployment),
        })
        .collect();
    let lists = [file, test].map(|object| given(object, "runOnRequirements"));
    let lists = lists.into_iter().flatten().filter_map(Value::as_array);
    let (mut lacking, mut all) = (Vec::new(), Vec::new());
    for list in lists {
        let options: Vec<Vec<Part>> = list.iter().map(parts).collect();
        let missing = |part: &&Part| !places.iter().any(|place| part.is_met_by(place));
        // An alternative that lacks nothing by itself asks for nothing.
        if options
            .iter()
            .all(|parts| parts.iter().any(|part| missing(&part)))
        {
            lacking.push(
                options
                    .iter()
                    .map(|parts| join(parts.iter().filter(missing)))
                    .collect(),
            );
        }
        all.push(options.iter().map(|parts| join(parts.iter())).collect());
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
    let texts = kept.iter().map(|list| {
        list.iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", or ")
    });
    texts.collect::<Vec<_>>().join(" and ")
}

fn join<'a>(parts: impl Iterator<Item = &'a Part>) -> String {
    let texts = parts.map(|part| part.text.as_str());
    texts.collect::<Vec<_>>().join(", ")
}

/// One thing that a requirement asks for.
struct Part {
    text: String,
    ask: Ask,
}

enum Ask {
    AtLeast(Version),
    AtMost(Version),
    Topologies(Vec<String>),
    Auth(bool),
    Parameters(Document),
    /// Whatever starts here meets it.
    Nothing,
    /// Nothing that starts here has it.
    Other,
}

impl Part {
    fn is_met_by(&self, place: &Deployment) -> bool {
        match &self.ask {
            Ask::AtLeast(version) => place.server_version >= *version,
            Ask::AtMost(version) => place.server_version <= *version,
            Ask::Topologies(names) => names.iter().any(|name| {
                let sharded = name == "sharded-replicaset" && place.topology.as_str() == "sharded";
                sharded || name == place.topology.as_str()
            }),
            Ask::Auth(auth) => place.auth == *auth,
            Ask::Parameters(wanted) => wanted
                .iter()
                .all(|(name, value)| place.server_parameters.get(name) == Some(value)),
            Ask::Nothing => true,
            Ask::Other => false,
        }
    }
}

fn parts(requirement: &Value) -> Vec<Part> {
    let keys = requirement.as_object().into_iter().flatten();
    keys.map(|(key, value)| part(key, value)).collect()
}

fn part(key: &str, value: &Value) -> Part {
    let plain = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    match key {
        "minServerVersion" => Part {
            text: format!("a server of {plain} or later"),
            ask: version(&plain, 0).map_or(Ask::Other, Ask::AtLeast),
        },
        "maxServerVersion" => Part {
            text: format!("a server of {plain} or earlier"),
            ask: version(&plain, u32::MAX).map_or(Ask::Other, Ask::AtMost),
        },
        "topologies" => {
            let names = value.as_array().into_iter().flatten();
            let names: Vec<String> = names
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect();
            Part {
                text: format!("the topology {}", names.join(" or ")),
                ask: Ask::Topologies(names),
            }
        }
        "auth" => Part {
            text: if plain == "true" {
                "access control"
            } else {
                "no access control"
            }
            .to_owned(),
            ask: Ask::Auth(plain == "true"),
        },
        "serverParameters" => Part {
            text: format!("the server parameters {plain}"),
            ask: match json::bson(value) {
                Ok(Bson::Document(parameters)) => Ask::Parameters(parameters),
                _ => Ask::Other,
            },
        },
        "csfle" => Part {
            text: "client-side encryption".to_owned(),
            ask: if plain == "false" {
                Ask::Nothing
            } else {
                Ask::Other
            },
        },
        "serverless" => Part {
            text: format!("serverless {plain}"),
            ask: if plain == "require" {
                Ask::Other
            } else {
                Ask::Nothing
            },
        },
        "authMechanism" => Part {
            text: format!("the mechanism {plain}"),
            ask: Ask::Other,
        },
        other => Part {
            text: format!("{other} {plain}"),
            ask: Ask::Other,
        },
    }
}

/// Reads `4`, `4.2` or `4.2.99`; `rest` stands for the numbers that are not given.
fn version(text: &str, rest: u32) -> Option<Version> {
    let mut numbers = text.split('.').map(|number| number.parse::<u32>().ok());
    let mut next = || numbers.next().unwrap_or(Some(rest));
    Some(Version::new(next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::servers::KINDS;

    /// The reason on the replica set and the standalone of the default version.
    fn reason(file: Value, test: Value) -> String {
        let kinds = KINDS
            .iter()
            .filter(|kind| ["replica set", "standalone"].contains(&kind.name));
        let places: Vec<Place> = kinds
            .map(|kind| {
                let mut profile = kind.profile().unwrap();
                profile.server_version = Version::new(6, 0, 5);
                Place::Local(kind, Box::new(profile))
            })
            .collect();
        let wrap = |list: Value| json!({ "runOnRequirements": list });
        describe(&wrap(file), &wrap(test), &places)
    }

    #[test]
    fn only_what_is_nowhere_is_named() {
        let table = [
            (
                json!([{ "minServerVersion": "6.1", "topologies": ["replicaset"] }]),
                json!(null),
                "needs a server of 6.1 or later",
            ),
            (
                json!([{ "topologies": ["sharded"] }, { "csfle": true }]),
                json!(null),
                "needs client-side encryption, or the topology sharded",
            ),
            (
                json!([{ "minServerVersion": "8" }]),
                json!([{ "minServerVersion": "8" }, { "auth": true }]),
                "needs a server of 8 or later",
            ),
            (
                json!([{ "topologies": ["sharded"], "serverless": "forbid" }]),
                json!([{ "maxServerVersion": "4.2.99" }]),
                "needs a server of 4.2.99 or earlier and the topology sharded",
            ),
        ];
        for (file, test, expected) in table {
            assert_eq!(reason(file, test), expected);
        }
    }

    #[test]
    fn what_is_somewhere_but_nowhere_together_is_named_whole() {
        let file = json!([{ "topologies": ["single"] }]);
        let test = json!([{ "topologies": ["replicaset"] }]);
        assert_eq!(
            reason(file, test),
            "needs the topology replicaset and the topology single"
        );
    }
}
