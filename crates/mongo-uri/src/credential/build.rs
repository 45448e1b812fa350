//! From user information and options to a credential.

use super::{
    AuthMechanism, AuthOptions, Credential, CredentialError, MechanismProperties, OidcEnvironment,
};
use crate::secret::Secret;

const EXTERNAL: &str = "$external";

/// Makes the credential that the parts ask for, or `None` if they ask for none: a database or an
/// `authSource` alone asks for nothing.
pub(crate) fn build(
    user: Option<(String, Option<Secret>)>,
    database: Option<&str>,
    options: &AuthOptions,
) -> Result<Option<Credential>, CredentialError> {
    if user.is_none() && options.mechanism.is_none() {
        return Ok(None);
    }
    let (username, password) = match user {
        Some((username, password)) => (Some(username), password),
        None => (None, None),
    };
    let mut credential = Credential {
        username,
        password,
        source: source(options, database)?,
        mechanism: options.mechanism,
        properties: options.properties.clone(),
    };
    check_properties(&credential)?;
    check_user(&credential)?;
    if credential.mechanism == Some(AuthMechanism::Gssapi) {
        credential
            .properties
            .service_name
            .get_or_insert_with(|| "mongodb".to_owned());
    }
    Ok(Some(credential))
}

fn source(options: &AuthOptions, database: Option<&str>) -> Result<String, CredentialError> {
    use AuthMechanism::{Gssapi, MongoDbAws, MongoDbOidc, MongoDbX509, Plain};
    let given = options.source.as_deref();
    let source = match options.mechanism {
        Some(mechanism @ (Gssapi | MongoDbX509 | MongoDbAws | MongoDbOidc)) => {
            if given.is_some_and(|source| source != EXTERNAL) {
                return Err(CredentialError::NotExternal(mechanism));
            }
            EXTERNAL
        }
        Some(Plain) => given.or(database).unwrap_or(EXTERNAL),
        _ => given.or(database).unwrap_or("admin"),
    };
    Ok(source.to_owned())
}

fn check_user(credential: &Credential) -> Result<(), CredentialError> {
    use AuthMechanism::{Gssapi, MongoDbAws, MongoDbOidc, MongoDbX509};
    let (user, password) = (credential.username.is_some(), credential.password.is_some());
    let Some(mechanism) = credential.mechanism else {
        // A user without a password may be completed in code, so the password is not asked for.
        return Ok(());
    };
    match mechanism {
        Gssapi if !user => Err(CredentialError::MissingUsername(mechanism)),
        Gssapi => Ok(()),
        MongoDbX509 if password => Err(CredentialError::UnexpectedPassword(mechanism)),
        MongoDbX509 => Ok(()),
        MongoDbAws if user || password => Err(CredentialError::AwsKeys),
        MongoDbAws => Ok(()),
        MongoDbOidc => check_oidc(credential),
        _ if !user => Err(CredentialError::MissingUsername(mechanism)),
        _ if !password => Err(CredentialError::MissingPassword(mechanism)),
        _ => Ok(()),
    }
}

fn check_oidc(credential: &Credential) -> Result<(), CredentialError> {
    use OidcEnvironment::{Azure, Gcp, Test};
    let mechanism = AuthMechanism::MongoDbOidc;
    if credential.password.is_some() {
        return Err(CredentialError::UnexpectedPassword(mechanism));
    }
    // Without one, a callback may be given in code.
    let environment = credential.properties.environment;
    if credential.username.is_some() && environment == Some(Test) {
        return Err(CredentialError::UnexpectedUsername(mechanism));
    }
    match (environment, credential.properties.token_resource.is_some()) {
        (Some(Azure | Gcp), false) => Err(CredentialError::MissingProperty {
            mechanism,
            property: "TOKEN_RESOURCE",
        }),
        (Some(Azure | Gcp), true) | (_, false) => Ok(()),
        (_, true) => Err(CredentialError::UnexpectedProperty {
            mechanism: mechanism.as_str(),
            property: "TOKEN_RESOURCE",
        }),
    }
}

/// Refuses properties of another mechanism than the credential's.
fn check_properties(credential: &Credential) -> Result<(), CredentialError> {
    for (property, owner) in given_properties(&credential.properties) {
        if credential.mechanism != Some(owner) {
            let mechanism = credential.mechanism.map_or("SCRAM", AuthMechanism::as_str);
            return Err(CredentialError::UnexpectedProperty {
                mechanism,
                property,
            });
        }
    }
    Ok(())
}

/// The properties that are set, each with the mechanism it belongs to.
fn given_properties(
    properties: &MechanismProperties,
) -> impl Iterator<Item = (&'static str, AuthMechanism)> {
    use AuthMechanism::{Gssapi, MongoDbOidc};
    [
        ("SERVICE_NAME", Gssapi, properties.service_name.is_some()),
        ("SERVICE_REALM", Gssapi, properties.service_realm.is_some()),
        ("SERVICE_HOST", Gssapi, properties.service_host.is_some()),
        (
            "CANONICALIZE_HOST_NAME",
            Gssapi,
            properties.canonicalize_host_name.is_some(),
        ),
        ("ENVIRONMENT", MongoDbOidc, properties.environment.is_some()),
        (
            "TOKEN_RESOURCE",
            MongoDbOidc,
            properties.token_resource.is_some(),
        ),
    ]
    .into_iter()
    .filter_map(|(name, owner, given)| given.then_some((name, owner)))
}
