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
    let mut phrases = BTreeSet::new();
    let mut all = BTreeSet::new();
    for list in lists {
        let options: Vec<Vec<Part>> = list.iter().map(parts).collect();
        let missing = |part: &&Part| !places.iter().any(|place| part.is_met_by(place));
        // An alternative that lacks nothing by itself asks for nothing.
        if options
            .iter()
            .all(|parts| parts.iter().any(|part| missing(&part)))
        {
            let lacking = options
                .iter()
                .map(|parts| join(parts.iter().filter(missing)));
            phrases.insert(either(lacking));
        }
        all.insert(either(options.iter().map(|parts| join(parts.iter()))));
    }
    let phrases = if phrases.is_empty() { all } else { phrases };
    let phrases: Vec<String> = phrases.into_iter().collect();
    format!("needs {}", phrases.join(" and "))
}

fn either(alternatives: impl Iterator<Item = String>) -> String {
    let alternatives: BTreeSet<String> = alternatives.collect();
    alternatives.into_iter().collect::<Vec<_>>().join(", or ")
}

fn join<'a>(parts: impl Iterator<Item = &'a Part>) -> String {
    parts
        .map(|part| part.text.as_str())
        .collect::<Vec<_>>()
        .join(", ")
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
