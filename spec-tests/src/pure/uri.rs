//! `connection-string` and `uri-options`: a URI, whether it is valid, and what it means.
//!
//! A `mongodb+srv` URI is resolved with the records of [`dns`], as a client would do before it
//! judges the URI.

use anyhow::{Result, bail, ensure};
use mongo_uri::{ConnectionString, ServerAddress, UriError};
use serde_json::{Value, json};

use super::{dns, uri_options};
use crate::case::{Case, one_per_test};
use crate::dir::SpecDir;
use crate::json::{expect_equal, field, given, text};

/// Cases that ask for the opposite of what the specifications say elsewhere. A URI that should be
/// refused is taken with a warning, and one that should be taken is refused; the case passes only
/// if it is. By description, with the reason.
const CONTRADICTED: &[(&str, &str)] = &[
    (
        "wtimeoutMS as an invalid number",
        "uri-options wants a warning for wTimeoutMS=-2, as for every value that is out of range",
    ),
    (
        "should use username and password if specified (MONGODB-AWS)",
        KEYS,
    ),
    (
        "should use username, password and session token if specified (MONGODB-AWS)",
        KEYS,
    ),
];

const KEYS: &str = "the text, and three cases of the same file, want such keys to be refused";

/// Loads the cases.
pub fn cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_test(dir, suite, |test| {
        let Some(parsed) = parse_as_expected(test)? else {
            return Ok(());
        };
        if let Some(hosts) = given(test, "hosts") {
            check_hosts(&parsed, hosts)?;
        }
        if let Some(auth) = given(test, "auth") {
            check_auth(&parsed, auth)?;
        }
        if let Some(options) = given(test, "options") {
            uri_options::check(&parsed, options)?;
        }
        Ok(())
    })
}

/// Parses the case's `uri` and checks `valid` and `warning`. `None` if the URI is rightly refused.
pub fn parse_as_expected(test: &Value) -> Result<Option<ConnectionString>> {
    let valid = field(test, "valid")? == true;
    let name = text(test, "description")?;
    let contradicted = CONTRADICTED.iter().any(|(case, _)| *case == name);
    match (parse(text(test, "uri")?), valid) {
        (Err(_), false) => Ok(None),
        (Err(_), true) if contradicted => Ok(None),
        (Ok(parsed), true) if contradicted => bail!("expected an error, got {parsed:?}"),
        (Err(error), true) => bail!("expected a valid URI, got the error: {error}"),
        (Ok(parsed), false) => {
            ensure!(contradicted, "expected an error, got {parsed:?}");
            ensure!(
                !parsed.warnings.is_empty(),
                "expected at least a warning, got {parsed:?}"
            );
            Ok(None)
        }
        (Ok(parsed), true) => {
            if let Some(warning) = given(test, "warning") {
                let warned = !parsed.warnings.is_empty();
                ensure!(
                    warning == warned,
                    "expected a warning: {warning}: {:?}",
                    parsed.warnings
                );
            }
            Ok(Some(parsed))
        }
    }
}

fn parse(uri: &str) -> Result<ConnectionString, UriError> {
    let parsed = ConnectionString::parse(uri)?;
    if let Some(credential) = &parsed.credential {
        credential.check_complete().map_err(UriError::Credential)?;
    }
    if parsed.srv_host.is_some() {
        dns::resolve(&parsed, 0)
    } else {
        Ok(parsed)
    }
}

fn check_hosts(parsed: &ConnectionString, hosts: &Value) -> Result<()> {
    let hosts = hosts.as_array().map(Vec::as_slice).unwrap_or_default();
    expect_equal("number of hosts", &parsed.hosts.len(), &hosts.len())?;
    for (actual, expected) in parsed.hosts.iter().zip(hosts) {
        let (kind, host, port) = describe(actual);
        expect_equal("type of host", kind, text(expected, "type")?)?;
        expect_equal("host", host.as_str(), text(expected, "host")?)?;
        if let Some(expected) = given(expected, "port") {
            expect_equal("port", &json!(port), expected)?;
        }
    }
    Ok(())
}

/// The specification's word for the kind of address, the host, and the port.
fn describe(address: &ServerAddress) -> (&'static str, String, Option<u16>) {
    match address {
        ServerAddress::Unix { path } => ("unix", path.display().to_string(), None),
        ServerAddress::Tcp { host, port } => {
            let kind = match host.parse() {
                Ok(std::net::IpAddr::V4(_)) => "ipv4",
                Ok(std::net::IpAddr::V6(_)) => "ip_literal",
                Err(_) => "hostname",
            };
            (kind, host.clone(), Some(*port))
        }
    }
}

fn check_auth(parsed: &ConnectionString, auth: &Value) -> Result<()> {
    let credential = parsed.credential.as_ref();
    let password = credential
        .and_then(|c| c.password.as_ref())
        .map(|secret| secret.expose());
    let actual = [
        ("username", credential.and_then(|c| c.username.as_deref())),
        ("password", password),
        ("db", parsed.default_database.as_deref()),
    ];
    for (key, actual) in actual {
        if let Some(expected) = given(auth, key) {
            expect_equal(key, &json!(actual), expected)?;
        }
    }
    Ok(())
}
