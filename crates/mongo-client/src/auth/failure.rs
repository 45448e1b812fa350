//! Why a connection could not be authenticated.

use std::fmt;

use mongo_uri::{AuthMechanism, ServerAddress};
use mongo_wire::ServerError;

/// A server did not take the credential, or did not prove that it knows it. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationError {
    /// The server.
    pub server: ServerAddress,
    /// The mechanism: the one asked for, or the one agreed on with the server.
    pub mechanism: AuthMechanism,
    /// The user, if the mechanism has one.
    pub user: Option<String>,
    /// The database that authenticates, `authSource`.
    pub database: String,
    /// What went wrong.
    pub failure: AuthFailure,
}

impl AuthenticationError {
    /// The error without the server's address.
    pub(crate) fn without_server(&self) -> String {
        let Self {
            mechanism,
            user,
            database,
            failure,
            ..
        } = self;
        let user = user.as_ref().map(|user| format!(" of {user:?}"));
        let user = user.unwrap_or_default();
        let advice = advice(*mechanism, failure);
        format!("authentication{user} on {database} by {mechanism} failed: {failure}{advice}")
    }
}

impl fmt::Display for AuthenticationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.server, self.without_server())
    }
}

impl std::error::Error for AuthenticationError {}

/// What went wrong in an authentication.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthFailure {
    /// The server answered with `ok: 0`.
    #[error("{0}")]
    Refused(Box<ServerError>),
    /// SCRAM-SHA-256 cannot take this password: SASLprep (RFC 4013) forbids one of its characters.
    #[error("the password has a character that SASLprep forbids: use another password")]
    ForbiddenPassword,
    /// A field of a reply is missing or of another type.
    #[error("malformed reply: {field} is missing or no such thing")]
    Malformed {
        /// Which field.
        field: &'static str,
    },
    /// The server did not keep to the SCRAM exchange. It may not be who it says.
    #[error("{0}")]
    Scram(ScramFault),
    /// A challenge of MONGODB-AWS cannot be answered.
    #[cfg(feature = "aws")]
    #[error("{0}")]
    Aws(AwsFault),
    /// There is no access token for MONGODB-OIDC.
    #[cfg(feature = "oidc")]
    #[error("{0}")]
    Oidc(OidcFault),
}

/// Why a challenge of MONGODB-AWS cannot be answered.
#[cfg(feature = "aws")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AwsFault {
    /// The server's nonce does not begin with ours, or has another length than 64 bytes.
    #[error("the server's nonce does not continue the client's")]
    Nonce,
    /// What the server takes for the host of AWS's Security Token Service can be no host's name.
    #[error("the server names no valid host of the Security Token Service")]
    Host,
    /// There are no credentials. The text says where they were looked for and what was met.
    #[error("no AWS credentials: {0}")]
    Credentials(String),
}

/// Why there is no access token for MONGODB-OIDC.
#[cfg(feature = "oidc")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OidcFault {
    /// A human's token must not be shown to this server.
    #[error(
        "the server is none of the allowed hosts, which may learn a human's token: add it with \
         ClientOptions::oidc_allowed_hosts, if it is to be trusted"
    )]
    HostNotAllowed,
    /// The callback, or the environment, has given none. The text says why.
    #[error("no access token: {0}")]
    NoToken(String),
    /// The callback took too long.
    #[error("no access token: the callback took longer than {0:?}")]
    Timeout(std::time::Duration),
}

#[cfg(feature = "oidc")]
impl From<OidcFault> for AuthFailure {
    fn from(fault: OidcFault) -> Self {
        Self::Oidc(fault)
    }
}

#[cfg(feature = "aws")]
impl From<AwsFault> for AuthFailure {
    fn from(fault: AwsFault) -> Self {
        Self::Aws(fault)
    }
}

/// How a server broke the rules of SCRAM (RFC 5802).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScramFault {
    /// A message of the server does not follow the grammar.
    #[error("malformed SCRAM message: {expected} expected")]
    Malformed {
        /// What should stand there.
        expected: &'static str,
    },
    /// The server's nonce does not begin with ours, or adds nothing to it.
    #[error("the server's nonce does not continue the client's")]
    Nonce,
    /// The iteration count is so low that the password could be guessed, or so high that deriving
    /// the key would not end.
    #[error("iteration count {found} is outside {minimum} to {maximum}")]
    Iterations {
        /// The server's count.
        found: u32,
        /// The least that is safe.
        minimum: u32,
        /// The most that this client computes.
        maximum: u32,
    },
    /// The server does not know the password: its signature is wrong or missing.
    #[error("the server could not prove that it knows the password")]
    ServerSignature,
    /// The server ended the exchange with an error of its own.
    #[error("the server says {0:?}")]
    Server(String),
    /// The exchange did not end when it should have.
    #[error("the exchange goes on after its last message")]
    Endless,
}

impl From<ScramFault> for AuthFailure {
    fn from(fault: ScramFault) -> Self {
        Self::Scram(fault)
    }
}

/// What to look at. Servers do not tell a wrong password from an unknown user.
fn advice(mechanism: AuthMechanism, failure: &AuthFailure) -> &'static str {
    /// `AuthenticationFailed`.
    const FAILED: i32 = 18;
    /// `MechanismUnavailable`.
    const NO_MECHANISM: i32 = 334;
    let AuthFailure::Refused(error) = failure else {
        return "";
    };
    match error.code {
        Some(FAILED) if mechanism == AuthMechanism::MongoDbAws => {
            "; check that AWS takes the credentials, and that $external has a user of the ARN that \
             they stand for"
        }
        Some(FAILED) if mechanism == AuthMechanism::MongoDbOidc => {
            "; check that the server knows the token's issuer, audience and subject"
        }
        Some(FAILED) => {
            "; check the user name, the password, authSource, and whether the user has this \
             mechanism"
        }
        Some(NO_MECHANISM) => "; choose an authMechanism that the server has enabled",
        _ => "",
    }
}
