//! Who to authenticate as, and how (Authentication specification, "MongoCredential").

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::secret::Secret;

mod build;

pub(crate) use build::build;

/// An authentication mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AuthMechanism {
    /// `SCRAM-SHA-1`.
    ScramSha1,
    /// `SCRAM-SHA-256`.
    ScramSha256,
    /// `MONGODB-X509`.
    MongoDbX509,
    /// `PLAIN` (SASL PLAIN, usually to LDAP).
    Plain,
    /// `GSSAPI` (Kerberos).
    Gssapi,
    /// `MONGODB-AWS`.
    MongoDbAws,
    /// `MONGODB-OIDC`.
    MongoDbOidc,
}

impl AuthMechanism {
    /// All mechanisms, in the order of the specification.
    pub const ALL: [Self; 7] = [
        Self::MongoDbX509,
        Self::Gssapi,
        Self::Plain,
        Self::ScramSha1,
        Self::ScramSha256,
        Self::MongoDbAws,
        Self::MongoDbOidc,
    ];

    /// The mechanism's name in connection strings and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::MongoDbX509 => "MONGODB-X509",
            Self::Plain => "PLAIN",
            Self::Gssapi => "GSSAPI",
            Self::MongoDbAws => "MONGODB-AWS",
            Self::MongoDbOidc => "MONGODB-OIDC",
        }
    }
}

impl fmt::Display for AuthMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AuthMechanism {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        if text == "MONGODB-CR" {
            return Err(CredentialError::RemovedMechanism);
        }
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.as_str() == text)
            .ok_or(CredentialError::UnknownMechanism)
    }
}

/// How GSSAPI finds the canonical name of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CanonicalizeHostName {
    /// Takes the name as it is.
    None,
    /// Looks the name up.
    Forward,
    /// Looks the name up, and then the address.
    ForwardAndReverse,
}

impl CanonicalizeHostName {
    /// The value of the property `CANONICALIZE_HOST_NAME`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Forward => "forward",
            Self::ForwardAndReverse => "forwardAndReverse",
        }
    }
}

/// Where an OIDC token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OidcEnvironment {
    /// A file named by `OIDC_TOKEN_FILE`, as the specification's tests use it.
    Test,
    /// Azure's instance metadata service.
    Azure,
    /// Google Cloud's instance metadata service.
    Gcp,
    /// The token of a Kubernetes service account.
    K8s,
}

impl OidcEnvironment {
    /// The value of the property `ENVIRONMENT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Azure => "azure",
            Self::Gcp => "gcp",
            Self::K8s => "k8s",
        }
    }
}

/// The option `authMechanismProperties`, each property typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MechanismProperties {
    /// `SERVICE_NAME` of GSSAPI; a GSSAPI [`Credential`] always has one, `mongodb` unless given.
    pub service_name: Option<String>,
    /// `SERVICE_REALM` of GSSAPI.
    pub service_realm: Option<String>,
    /// `SERVICE_HOST` of GSSAPI.
    pub service_host: Option<String>,
    /// `CANONICALIZE_HOST_NAME` of GSSAPI.
    pub canonicalize_host_name: Option<CanonicalizeHostName>,
    /// `ENVIRONMENT` of MONGODB-OIDC.
    pub environment: Option<OidcEnvironment>,
    /// `TOKEN_RESOURCE` of MONGODB-OIDC. In a connection string its value holds no comma.
    pub token_resource: Option<String>,
}

/// What the options say about authentication, before a [`Credential`] is made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AuthOptions {
    /// `authMechanism`.
    pub mechanism: Option<AuthMechanism>,
    /// `authSource`.
    pub source: Option<String>,
    /// `authMechanismProperties`.
    pub properties: MechanismProperties,
}

/// A credential that meets every rule of its mechanism, but for what may be given in code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credential {
    /// The user; `None` where the mechanism finds the user elsewhere.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The database that authenticates.
    pub source: String,
    /// The mechanism; `None` to negotiate SCRAM with the server.
    pub mechanism: Option<AuthMechanism>,
    /// What the mechanism needs besides.
    pub properties: MechanismProperties,
}

impl Credential {
    /// Looks for what only code can add: the callback of a MONGODB-OIDC without `ENVIRONMENT`.
    ///
    /// # Errors
    /// [`CredentialError::NoTokens`].
    pub fn check_complete(&self) -> Result<(), CredentialError> {
        let is_oidc = self.mechanism == Some(AuthMechanism::MongoDbOidc);
        if is_oidc && self.properties.environment.is_none() {
            return Err(CredentialError::NoTokens);
        }
        Ok(())
    }
}

/// Why a credential cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// MONGODB-CR is gone from servers since 4.0.
    #[error("MONGODB-CR was removed in MongoDB 4.0: remove authMechanism to negotiate SCRAM")]
    RemovedMechanism,
    /// No such mechanism.
    #[error(
        "unknown authMechanism: use SCRAM-SHA-256, SCRAM-SHA-1, MONGODB-X509, PLAIN, GSSAPI, \
         MONGODB-AWS or MONGODB-OIDC, or remove it to negotiate SCRAM"
    )]
    UnknownMechanism,
    /// The mechanism needs a user name.
    #[error("{0} needs a user name before the hosts: user:password@host")]
    MissingUsername(AuthMechanism),
    /// The mechanism, or the default one, needs a password.
    #[error("{0} needs a password after the user name: user:password@host")]
    MissingPassword(AuthMechanism),
    /// The mechanism takes no user name here.
    #[error("{0} takes no user name with these properties: remove it")]
    UnexpectedUsername(AuthMechanism),
    /// The mechanism takes no password.
    #[error("{0} takes no password: remove it")]
    UnexpectedPassword(AuthMechanism),
    /// The mechanism authenticates against `$external` alone.
    #[error("{0} authenticates against $external: remove authSource or set it to $external")]
    NotExternal(AuthMechanism),
    /// The mechanism does not take the property.
    #[error("{mechanism} takes no property {property}: remove it")]
    UnexpectedProperty {
        /// The mechanism's name.
        mechanism: &'static str,
        /// The property's name.
        property: &'static str,
    },
    /// The property's value is outside what it takes.
    #[error("property {property}: use {expected}")]
    InvalidProperty {
        /// The property's name.
        property: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// The mechanism needs the property.
    #[error("{mechanism} needs the property {property} here")]
    MissingProperty {
        /// The mechanism.
        mechanism: AuthMechanism,
        /// The property's name.
        property: &'static str,
    },
    /// Nothing says where the tokens of MONGODB-OIDC come from.
    #[error(
        "MONGODB-OIDC needs tokens: add authMechanismProperties=ENVIRONMENT:azure, gcp or k8s, or \
         give a callback in code"
    )]
    NoTokens,
    /// Keys of MONGODB-AWS, which must not come from a connection string.
    #[error(
        "MONGODB-AWS takes no keys from a connection string: remove user name, password and \
         AWS_SESSION_TOKEN, and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if there is one, \
         AWS_SESSION_TOKEN in the environment"
    )]
    AwsKeys,
    /// `ALLOWED_HOSTS` is a safeguard, so it must not come from a connection string.
    #[error("ALLOWED_HOSTS must not stand in a connection string: set it in code")]
    AllowedHosts,
}

#[cfg(test)]
mod tests;
