//! The options about authentication.

use super::{Warnings, one};
use crate::credential::{
    CanonicalizeHostName, CredentialError, MechanismProperties, OidcEnvironment,
};
use crate::error::OptionProblem;
use crate::options::UriOptions;
use crate::options::value::{self, Refusal};
use crate::secret::REDACTED;
use crate::warning::WarningKind;

pub(in crate::options) fn read_mechanism(
    o: &mut UriOptions,
    text: &str,
    _: &mut Warnings,
) -> Result<(), Refusal> {
    o.auth.mechanism = Some(value::present(text)?.parse()?);
    Ok(())
}

pub(in crate::options) fn write_mechanism(o: &UriOptions) -> Vec<String> {
    one(o.auth.mechanism)
}

pub(in crate::options) fn read_source(
    o: &mut UriOptions,
    text: &str,
    _: &mut Warnings,
) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(OptionProblem::Empty.into());
    }
    o.auth.source = Some(text.to_owned());
    Ok(())
}

pub(in crate::options) fn write_source(o: &UriOptions) -> Vec<String> {
    one(o.auth.source.as_deref())
}

pub(in crate::options) fn read_properties(
    o: &mut UriOptions,
    text: &str,
    warnings: &mut Warnings,
) -> Result<(), Refusal> {
    let mut properties = MechanismProperties::default();
    for piece in value::pairs(value::present(text)?) {
        match piece {
            Ok((name, value)) => {
                if !set_property(&mut properties, name, value)? {
                    warnings.push(WarningKind::InvalidProperty {
                        name: name.to_owned(),
                    });
                }
            }
            // The piece may be the rest of a secret that held a comma.
            Err(_) => warnings.push(WarningKind::InvalidProperty {
                name: REDACTED.to_owned(),
            }),
        }
    }
    o.auth.properties = properties;
    Ok(())
}

/// Sets a property by its name, whose case does not matter; false if there is no such property.
fn set_property(
    properties: &mut MechanismProperties,
    name: &str,
    value: &str,
) -> Result<bool, CredentialError> {
    let text = || Some(value.to_owned());
    match name.to_ascii_uppercase().as_str() {
        "SERVICE_NAME" => properties.service_name = text(),
        "SERVICE_REALM" => properties.service_realm = text(),
        "SERVICE_HOST" => properties.service_host = text(),
        "CANONICALIZE_HOST_NAME" => {
            properties.canonicalize_host_name = Some(canonicalize_host_name(value)?);
        }
        "AWS_SESSION_TOKEN" => return Err(CredentialError::AwsKeys),
        "ENVIRONMENT" => properties.environment = Some(environment(value)?),
        "TOKEN_RESOURCE" => properties.token_resource = text(),
        "ALLOWED_HOSTS" => return Err(CredentialError::AllowedHosts),
        _ => return Ok(false),
    }
    Ok(true)
}

fn canonicalize_host_name(value: &str) -> Result<CanonicalizeHostName, CredentialError> {
    match value {
        "none" | "false" => Ok(CanonicalizeHostName::None),
        "forward" => Ok(CanonicalizeHostName::Forward),
        "forwardAndReverse" | "true" => Ok(CanonicalizeHostName::ForwardAndReverse),
        _ => Err(CredentialError::InvalidProperty {
            property: "CANONICALIZE_HOST_NAME",
            expected: "none, forward or forwardAndReverse",
        }),
    }
}

fn environment(value: &str) -> Result<OidcEnvironment, CredentialError> {
    match value {
        "test" => Ok(OidcEnvironment::Test),
        "azure" => Ok(OidcEnvironment::Azure),
        "gcp" => Ok(OidcEnvironment::Gcp),
        "k8s" => Ok(OidcEnvironment::K8s),
        _ => Err(CredentialError::InvalidProperty {
            property: "ENVIRONMENT",
            expected: "test, azure, gcp or k8s",
        }),
    }
}

pub(in crate::options) fn write_properties(o: &UriOptions) -> Vec<String> {
    let p = &o.auth.properties;
    let pieces: Vec<String> = [
        ("SERVICE_NAME", p.service_name.as_deref()),
        ("SERVICE_REALM", p.service_realm.as_deref()),
        ("SERVICE_HOST", p.service_host.as_deref()),
        (
            "CANONICALIZE_HOST_NAME",
            p.canonicalize_host_name.map(CanonicalizeHostName::as_str),
        ),
        ("ENVIRONMENT", p.environment.map(OidcEnvironment::as_str)),
        ("TOKEN_RESOURCE", p.token_resource.as_deref()),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| format!("{name}:{value}")))
    .collect();
    if pieces.is_empty() {
        Vec::new()
    } else {
        vec![pieces.join(",")]
    }
}

/// The old way to say `authMechanismProperties=SERVICE_NAME:...`, which wins if both are given.
pub(in crate::options) fn read_service_name(
    o: &mut UriOptions,
    text: &str,
    warnings: &mut Warnings,
) -> Result<(), Refusal> {
    let replacement = "authMechanismProperties=SERVICE_NAME:...";
    if o.auth.properties.service_name.is_some() {
        return Err(WarningKind::DeprecatedNameIgnored { replacement }.into());
    }
    if value::present(text)?.contains(',') {
        return Err(WarningKind::InvalidValue {
            expected: "a service name without a comma",
        }
        .into());
    }
    o.auth.properties.service_name = Some(text.to_owned());
    warnings.push(WarningKind::DeprecatedName { replacement });
    Ok(())
}
