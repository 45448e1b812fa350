//! A connection string whose parts can be changed.

use std::fmt;

use bson::{Bson, Document};

use super::stop::{Run, Stop};

/// What must not stand unescaped in the value of an option.
const RESERVED: &[char] = &['%', '&', '=', '?', '#', '/', '@', '+', ' '];

/// The parts of a connection string, as they are written.
#[derive(Clone, Debug)]
pub(super) struct Uri {
    /// The scheme and the credentials, up to the hosts.
    prefix: String,
    hosts: String,
    database: String,
    options: Vec<(String, String)>,
}

impl Uri {
    pub(super) fn parse(text: &str) -> Run<Self> {
        let malformed = || Stop::fail(format!("{text:?} is no connection string"));
        let start = text.find("://").ok_or_else(malformed)? + 3;
        let (rest, options) = text.split_once('?').unwrap_or((text, ""));
        let start = rest.rfind('@').map_or(start, |at| at + 1);
        let (prefix, rest) = rest.split_at_checked(start).ok_or_else(malformed)?;
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let options = options.split('&').filter(|option| !option.is_empty());
        let pair = |option: &str| {
            let (name, value) = option.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Ok(Self {
            prefix: prefix.to_owned(),
            hosts: hosts.to_owned(),
            database: database.to_owned(),
            options: options
                .map(pair)
                .collect::<Option<_>>()
                .ok_or_else(malformed)?,
        })
    }

    /// The string that reaches one server alone.
    pub(super) fn direct(mut self, address: &str) -> Self {
        address.clone_into(&mut self.hosts);
        self.remove("replicaSet");
        self.remove("loadBalanced");
        self.set("directConnection", "true");
        self
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let mut options = self.options.iter();
        options.any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Gives an option one value, whatever it had.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.options.push((name.to_owned(), escape(value)));
    }

    fn remove(&mut self, name: &str) {
        self.options
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Applies `uriOptions` of a client entity.
    pub(super) fn apply(&mut self, options: &Document) -> Run {
        for (name, value) in options {
            match value {
                Bson::Array(values) => {
                    self.remove(name);
                    for value in values {
                        self.options
                            .push((name.clone(), escape(&text(name, value)?)));
                    }
                }
                Bson::Document(pairs) => {
                    let pair = |(key, value)| Ok(format!("{key}:{}", text(name, value)?));
                    let pairs = pairs.iter().map(pair).collect::<Run<Vec<_>>>()?;
                    self.set(name, &pairs.join(","));
                }
                value => self.set(name, &text(name, value)?),
            }
        }
        let is_direct = matches!(options.get("directConnection"), Some(Bson::Boolean(true)));
        if is_direct {
            let first = self.hosts.split(',').next().unwrap_or_default().to_owned();
            *self = self.clone().direct(&first);
        }
        Ok(())
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/{}", self.prefix, self.hosts, self.database)?;
        for (index, (name, value)) in self.options.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

fn text(name: &str, value: &Bson) -> Run<String> {
    match value {
        Bson::String(text) => Ok(text.clone()),
        Bson::Boolean(_) | Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) => {
            Ok(value.to_string())
        }
        Bson::Document(document) if document.contains_key("$$placeholder") => Err(Stop::fail(
            format!("there is nothing to put in the place of {name}"),
        )),
        other => Err(Stop::fail(format!(
            "{name} cannot be {other} in a connection string"
        ))),
    }
}

fn escape(value: &str) -> String {
    let escaped = |c: char| match RESERVED.contains(&c) {
        true => format!("%{:02X}", u32::from(c)),
        false => c.to_string(),
    };
    value.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn applied(uri: &str, options: &Document) -> String {
        let mut uri = Uri::parse(uri).unwrap();
        uri.apply(options).unwrap();
        uri.to_string()
    }

    #[test]
    fn options_of_a_case_replace_those_that_are_there() {
        let table = [
            ("mongodb://a,b", doc! {}, "mongodb://a,b/"),
            (
                "mongodb://a/?w=1",
                doc! { "W": "majority" },
                "mongodb://a/?W=majority",
            ),
            (
                "mongodb://u:p%40@a:1,b:2/db?replicaSet=rs&x=1",
                doc! { "appname": "a b&c", "retryReads": false, "n": 5 },
                "mongodb://u:p%40@a:1,b:2/db?replicaSet=rs&x=1&appname=a%20b%26c&retryReads=false&n=5",
            ),
            (
                "mongodb://a,b/?replicaSet=rs",
                doc! { "directConnection": true },
                "mongodb://a/?directConnection=true",
            ),
            (
                "mongodb://a/",
                doc! { "readPreferenceTags": ["dc:1", "dc:2"] },
                "mongodb://a/?readPreferenceTags=dc:1&readPreferenceTags=dc:2",
            ),
            (
                "mongodb://a/",
                doc! { "authMechanismProperties": { "A": "b", "C": true } },
                "mongodb://a/?authMechanismProperties=A:b,C:true",
            ),
        ];
        for (uri, options, expected) in table {
            assert_eq!(applied(uri, &options), expected);
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        for options in [
            doc! { "authMechanismProperties": { "A": { "$$placeholder": 1 } } },
            doc! { "x": Bson::Null },
        ] {
            let mut uri = Uri::parse("mongodb://a").unwrap();
            assert!(uri.apply(&options).is_err(), "{options}");
        }
        assert!(Uri::parse("localhost").is_err());
        assert!(Uri::parse("mongodb://a/?w").is_err());
    }
}
