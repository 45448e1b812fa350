//! Who a client is, as far as its options say that in code.

#[cfg(feature = "oidc")]
use std::time::Duration;

use mongo_uri::AuthMechanism;

#[cfg(feature = "aws")]
use crate::cloud::AwsIdentity;
#[cfg(feature = "oidc")]
use crate::cloud::OidcIdentity;
use crate::error::{Error, Misuse, Result};
use crate::options::ClientOptions;

/// Refuses what is given for another mechanism than the one in use.
fn needs_mechanism(
    options: &ClientOptions,
    mechanism: AuthMechanism,
    option: &'static str,
) -> Result<()> {
    let credential = options.uri.credential.as_ref();
    if credential.and_then(|credential| credential.mechanism) == Some(mechanism) {
        return Ok(());
    }
    Err(Error::Misuse(Misuse::OtherMechanism { option, mechanism }))
}

/// # Errors
/// [`Misuse::OtherMechanism`].
#[cfg(feature = "aws")]
pub(super) fn aws(options: &ClientOptions) -> Result<AwsIdentity> {
    if options.aws.is_some() {
        needs_mechanism(options, AuthMechanism::MongoDbAws, "aws_credentials")?;
    }
    let surroundings = options.surroundings.clone();
    Ok(AwsIdentity::new(options.aws.clone(), surroundings))
}

/// # Errors
/// [`Misuse::OtherMechanism`], [`Misuse::Contradiction`], and [`Misuse::Credential`] when nobody
/// is there to give a token.
#[cfg(feature = "oidc")]
pub(super) fn oidc(
    options: &ClientOptions,
    connect_timeout: Option<Duration>,
) -> Result<OidcIdentity> {
    let mechanism = AuthMechanism::MongoDbOidc;
    let contradiction = |what| Err(Error::Misuse(Misuse::Contradiction { what }));
    let given = &options.oidc;
    for (is_given, option) in [
        (given.machine.is_some(), "oidc_callback"),
        (given.human.is_some(), "oidc_human_callback"),
        (given.allowed_hosts.is_some(), "oidc_allowed_hosts"),
    ] {
        if is_given {
            needs_mechanism(options, mechanism, option)?;
        }
    }
    let credential = options.uri.credential.as_ref();
    let Some(credential) = credential.filter(|given| given.mechanism == Some(mechanism)) else {
        return Ok(OidcIdentity::default());
    };
    if given.allowed_hosts.is_some() && given.human.is_none() {
        return contradiction("oidc_allowed_hosts, which is for humans, and a machine's tokens");
    }
    let environment = credential.properties.environment;
    let identity = match (given.machine.clone(), given.human.clone(), environment) {
        (Some(_), Some(_), _) => return contradiction("oidc_callback and oidc_human_callback"),
        (Some(_), None, Some(_)) | (None, Some(_), Some(_)) => {
            return contradiction("the property ENVIRONMENT and a callback");
        }
        (Some(callback), None, None) => OidcIdentity::of_machine(callback),
        (None, Some(callback), None) => {
            let hosts = given.allowed_hosts.clone().unwrap_or_default();
            OidcIdentity::of_human(callback, hosts)
        }
        (None, None, Some(environment)) => OidcIdentity::of_environment(environment),
        (None, None, None) => {
            let checked = credential.check_complete();
            checked.map_err(|reason| Error::Misuse(Misuse::Credential { reason }))?;
            OidcIdentity::default()
        }
    };
    let resource = credential.properties.token_resource.clone();
    let operation_timeout = options.uri.options.timeout.filter(|limit| !limit.is_zero());
    let limit = operation_timeout.map(|limit| connect_timeout.map_or(limit, |c| c.min(limit)));
    Ok(identity
        .with_names(credential.username.clone(), resource)
        .within(options.surroundings.clone(), limit))
}
