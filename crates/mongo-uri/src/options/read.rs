//! From `name=value` pairs to [`UriOptions`], with the rules about repeated and deprecated names.

use std::collections::BTreeSet;

use super::UriOptions;
use super::table::{Entry, OPTIONS};
use super::value::{self, Refusal};
use crate::error::{OptionProblem, UriError};
use crate::secret::REDACTED;
use crate::warning::{Warning, WarningKind};

/// One option as it stands in the text, decoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Other names of options: the name in lower case, the canonical name, and whether it is
/// deprecated.
const ALIASES: [(&str, &str, bool); 2] = [("ssl", "tls", false), ("wtimeout", "wTimeoutMS", true)];

/// TLS options of which no two may be given (URI Options specification, "Conflicting TLS options").
const EXCLUSIVE_TLS: [(&str, &str); 7] = [
    ("tlsInsecure", "tlsAllowInvalidCertificates"),
    ("tlsInsecure", "tlsAllowInvalidHostnames"),
    ("tlsInsecure", "tlsDisableOCSPEndpointCheck"),
    ("tlsInsecure", "tlsDisableCertificateRevocationCheck"),
    ("tlsAllowInvalidCertificates", "tlsDisableOCSPEndpointCheck"),
    (
        "tlsAllowInvalidCertificates",
        "tlsDisableCertificateRevocationCheck",
    ),
    (
        "tlsDisableOCSPEndpointCheck",
        "tlsDisableCertificateRevocationCheck",
    ),
];

/// An option as it was given, with what the table knows of it.
struct Given<'a> {
    pair: &'a Pair,
    entry: Option<&'static Entry>,
    deprecated: bool,
}

impl<'a> Given<'a> {
    fn new(pair: &'a Pair) -> Self {
        let name = pair.name.to_ascii_lowercase();
        let alias = ALIASES.iter().find(|(alias, ..)| *alias == name);
        let canonical = alias.map_or(name.as_str(), |(_, canonical, _)| canonical);
        let entry = OPTIONS
            .iter()
            .find(|entry| entry.name.eq_ignore_ascii_case(canonical));
        let deprecated =
            alias.is_some_and(|(.., deprecated)| *deprecated) || name == "gssapiservicename";
        Self {
            pair,
            entry,
            deprecated,
        }
    }

    fn is(&self, name: &str) -> bool {
        self.entry.is_some_and(|entry| entry.name == name)
    }

    fn warning(&self, kind: WarningKind) -> Warning {
        let secret = self.entry.is_none_or(Entry::is_secret);
        // A deprecated name is told as it was written, for that is what has to be changed.
        let option = match self.entry {
            Some(entry) if !self.deprecated => entry.name.to_owned(),
            _ => self.pair.name.clone(),
        };
        let value = if secret {
            REDACTED.to_owned()
        } else {
            self.pair.value.clone()
        };
        Warning {
            option,
            value,
            kind,
        }
    }
}

/// Reads the options and says what was ignored or is deprecated.
pub(crate) fn read(pairs: &[Pair]) -> Result<(UriOptions, Vec<Warning>), UriError> {
    let mut given: Vec<_> = pairs.iter().map(Given::new).collect();
    // The new name decides, wherever it stands.
    given.sort_by_key(|option| option.deprecated);
    refuse_exclusive(&given)?;
    refuse_different_tls(&given)?;

    let mut options = UriOptions::default();
    let mut warnings = Vec::new();
    let mut seen = BTreeSet::new();
    for option in &given {
        let Some(entry) = option.entry else {
            warnings.push(option.warning(WarningKind::UnknownOption));
            continue;
        };
        let repeated = !seen.insert(entry.name);
        if let Some(kind) = repetition(entry, option, repeated)? {
            let ignored = matches!(kind, WarningKind::DeprecatedNameIgnored { .. });
            warnings.push(option.warning(kind));
            if ignored {
                continue;
            }
        }
        let mut kinds = Vec::new();
        match entry.read(&mut options, &option.pair.value, &mut kinds) {
            Ok(()) => {}
            Err(Refusal::Ignored(kind)) => kinds.push(kind),
            Err(Refusal::Fatal(problem)) => {
                return Err(UriError::Option {
                    option: entry.name,
                    problem,
                });
            }
            Err(Refusal::Credential(error)) => return Err(error.into()),
        }
        warnings.extend(kinds.into_iter().map(|kind| option.warning(kind)));
    }
    Ok((options, warnings))
}

/// What is to be said of an option that is old, or was there before.
fn repetition(
    entry: &'static Entry,
    option: &Given<'_>,
    repeated: bool,
) -> Result<Option<WarningKind>, UriError> {
    let replacement = entry.name;
    match entry.name {
        // A list; the aliases agree, which was checked; and one that warns by itself.
        "readPreferenceTags" | "tls" | "gssapiServiceName" => Ok(None),
        // Which of two values counts would decide whom to trust.
        name if repeated && (name.starts_with("proxy") || name == "srvAllowedHostsSuffix") => {
            Err(UriError::Option {
                option: name,
                problem: OptionProblem::Repeated,
            })
        }
        _ if repeated && option.deprecated => {
            Ok(Some(WarningKind::DeprecatedNameIgnored { replacement }))
        }
        _ if repeated => Ok(Some(WarningKind::Repeated)),
        _ if option.deprecated => Ok(Some(WarningKind::DeprecatedName { replacement })),
        _ => Ok(None),
    }
}

fn refuse_exclusive(given: &[Given<'_>]) -> Result<(), UriError> {
    let has = |name| given.iter().any(|option| option.is(name));
    match EXCLUSIVE_TLS
        .into_iter()
        .find(|(first, second)| has(first) && has(second))
    {
        Some((first, second)) => Err(UriError::Conflict {
            first,
            second,
            advice: "give one of them, whatever its value",
        }),
        None => Ok(()),
    }
}

fn refuse_different_tls(given: &[Given<'_>]) -> Result<(), UriError> {
    let mut values = given
        .iter()
        .filter(|option| option.is("tls"))
        .map(|option| value::flag(&option.pair.value, &mut Vec::new()).ok());
    let first = values.next();
    if values.all(|value| Some(value) == first) {
        Ok(())
    } else {
        Err(UriError::Option {
            option: "tls",
            problem: OptionProblem::Contradictory,
        })
    }
}
