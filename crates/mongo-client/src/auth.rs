//! Authentication as machines (Authentication specification): documents in, documents out.
//!
//! An [`Authenticator`] is a client's credential. Each connection begins with an [`Opening`], whose elements go into the first hello;
//! from the reply follows a [`Conversation`], which says step by step what to do:
//!
//! ```text
//! Opening --hello's reply--> Conversation --+--> Send: run the command, handle its reply
//!                                           +--> Derive: compute for a while, hand in the result
//!                                           +--> Identify: hand in AWS credentials and the time
//!                                           +--> Token: hand in an access token, if there is one
//!                                           +--> Done
//! ```
//!
//! Nothing here does IO, takes the time or is random: the nonce is given.

#[cfg(feature = "aws")]
mod aws;
mod failure;
#[cfg(feature = "oidc")]
mod oidc;
mod plain;
mod sasl;
mod scram;
mod x509;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::{RawDocument, RawDocumentBuf, cstr};
use mongo_topology::{HelloReply, ServerType};
use mongo_uri::{AuthMechanism, Credential, CredentialError};
use mongo_wire::ServerError;

#[cfg(feature = "aws")]
pub use aws::AwsCredentials;
#[cfg(feature = "aws")]
pub(crate) use aws::{CredentialCache, Expiring, Source};
#[cfg(feature = "aws")]
pub use failure::AwsFault;
#[cfg(feature = "oidc")]
pub use failure::OidcFault;
pub use failure::{AuthFailure, AuthenticationError, ScramFault};
#[cfg(feature = "oidc")]
pub(crate) use oidc::{AllowedHosts, Origin, Token, TokenCache, Wish};
#[cfg(feature = "oidc")]
pub use oidc::{OidcContext, OidcIdpInfo, OidcToken};
pub(crate) use scram::{Derivation, DerivedKeys, ScramKeys};

#[cfg(feature = "aws")]
use self::aws::Aws;
#[cfg(feature = "oidc")]
use self::oidc::Oidc;
use self::scram::Scram;
use crate::error::Misuse;

/// Random bytes for one authentication.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nonce([u8; Self::LEN]);

impl Nonce {
    pub(crate) const LEN: usize = 32;

    /// The bytes must be new and unpredictable for each authentication.
    pub(crate) fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Without a comma, as SCRAM wants it.
    fn text(self) -> String {
        BASE64.encode(self.0)
    }
}

/// What a client authenticates with.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credential: Credential,
}

impl Authenticator {
    /// Takes a credential that can be used as it is.
    ///
    /// # Errors
    /// [`Misuse::Unsupported`] for a mechanism that is not there, [`Misuse::Credential`] when the
    /// user or the password is missing.
    pub(crate) fn new(credential: Credential) -> Result<Self, Misuse> {
        let unsupported = |what| Err(Misuse::Unsupported { what });
        let mechanism = credential.mechanism.unwrap_or(AuthMechanism::ScramSha256);
        match mechanism {
            AuthMechanism::ScramSha1 | AuthMechanism::ScramSha256 | AuthMechanism::Plain => {
                let missing = if credential.username.as_deref().is_none_or(str::is_empty) {
                    CredentialError::MissingUsername(mechanism)
                } else if credential.password.is_none() {
                    CredentialError::MissingPassword(mechanism)
                } else {
                    return Ok(Self { credential });
                };
                Err(Misuse::Credential { reason: missing })
            }
            AuthMechanism::MongoDbX509 => Ok(Self { credential }),
            AuthMechanism::Gssapi => unsupported("authMechanism=GSSAPI (Kerberos)"),
            #[cfg(feature = "aws")]
            AuthMechanism::MongoDbAws => Ok(Self { credential }),
            #[cfg(not(feature = "aws"))]
            AuthMechanism::MongoDbAws => {
                unsupported("authMechanism=MONGODB-AWS (the feature `aws`, which this build lacks)")
            }
            #[cfg(feature = "oidc")]
            AuthMechanism::MongoDbOidc => Ok(Self { credential }),
            #[cfg(not(feature = "oidc"))]
            AuthMechanism::MongoDbOidc => unsupported(
                "authMechanism=MONGODB-OIDC (the feature `oidc`, which this build lacks)",
            ),
            _ => unsupported("an authMechanism that this version does not know"),
        }
    }

    /// The mechanism that the application gave.
    pub(crate) fn mechanism(&self) -> Option<AuthMechanism> {
        self.credential.mechanism
    }

    /// Begins a connection.
    pub(crate) fn open(&self, nonce: Nonce) -> Opening<'_> {
        let mechanism = self.mechanism().unwrap_or(AuthMechanism::ScramSha256);
        // PLAIN would show the password before it is known that the server wants it, and servers
        // take no MONGODB-AWS within a hello.
        let speculates = !matches!(mechanism, AuthMechanism::Plain | AuthMechanism::MongoDbAws);
        let speculated = speculates
            // A password that SHA-256 cannot take may still do for SHA-1.
            .then(|| self.begin(mechanism, nonce).ok())
            .flatten();
        Opening {
            authenticator: self,
            nonce,
            speculated,
        }
    }

    /// Begins to authenticate a connection again, whose credential has expired.
    pub(crate) fn again(
        &self,
        before: &Proof,
        nonce: Nonce,
    ) -> Result<(Conversation, Step), AuthFailure> {
        #[cfg_attr(not(feature = "oidc"), expect(unused_mut))]
        let (conversation, mut step) = self.begin(before.mechanism, nonce)?;
        #[cfg(feature = "oidc")]
        if let Step::Token(wish) = &mut step {
            wish.refused = before.token;
        }
        Ok((conversation, step))
    }

    fn begin(
        &self,
        mechanism: AuthMechanism,
        nonce: Nonce,
    ) -> Result<(Conversation, Step), AuthFailure> {
        let state = match mechanism {
            #[cfg(feature = "aws")]
            AuthMechanism::MongoDbAws => State::Aws(Aws::new(nonce)),
            #[cfg(feature = "oidc")]
            AuthMechanism::MongoDbOidc => {
                State::Oidc(Box::new(Oidc::new(self.credential.username.clone())))
            }
            AuthMechanism::MongoDbX509 => State::X509,
            AuthMechanism::Plain => State::Plain,
            AuthMechanism::ScramSha1 => self.scram(scram::Hash::Sha1, nonce)?,
            _ => self.scram(scram::Hash::Sha256, nonce)?,
        };
        let conversation = Conversation {
            mechanism,
            credential: self.credential.clone(),
            state,
        };
        let first = conversation.first_step();
        Ok((conversation, first))
    }

    fn scram(&self, hash: scram::Hash, nonce: Nonce) -> Result<State, AuthFailure> {
        let password = hash.password(self.username(), self.password())?;
        let scram = Scram::new(hash, self.username(), password, nonce.text());
        Ok(State::Scram(Box::new(scram)))
    }

    fn username(&self) -> &str {
        self.credential.username.as_deref().unwrap_or_default()
    }

    fn password(&self) -> &str {
        self.credential
            .password
            .as_ref()
            .map_or("", |password| password.expose())
    }

    /// Describes a failure on one server.
    pub(crate) fn error(
        &self,
        server: mongo_uri::ServerAddress,
        mechanism: AuthMechanism,
        failure: AuthFailure,
    ) -> AuthenticationError {
        AuthenticationError {
            server,
            mechanism,
            user: self.credential.username.clone(),
            database: self.credential.source.clone(),
            failure,
        }
    }
}

/// A connection before its first hello.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    authenticator: &'a Authenticator,
    nonce: Nonce,
    /// With the command that goes into the hello, or what it would take to make one.
    speculated: Option<(Conversation, Step)>,
}

impl Opening<'_> {
    /// Offers a token that is known already within the hello.
    #[cfg(feature = "oidc")]
    pub(crate) fn with_token(mut self, token: &Token) -> Self {
        let offered = self.speculated.take();
        self.speculated = offered.and_then(|(mut conversation, _)| {
            let step = conversation.given(Some(token)).ok()?;
            Some((conversation, step))
        });
        self
    }

    /// The mechanism that is hoped for, to name in errors before one is agreed on.
    pub(crate) fn mechanism(&self) -> AuthMechanism {
        let given = self.authenticator.credential.mechanism;
        given.unwrap_or(AuthMechanism::ScramSha256)
    }

    /// Adds what the first hello asks and tries (Handshake, "Speculative Authentication").
    pub(crate) fn append_to(&self, hello: &mut RawDocumentBuf) {
        let credential = &self.authenticator.credential;
        if credential.mechanism.is_none() {
            let user = self.authenticator.username();
            let asked = format!("{}.{user}", credential.source);
            hello.append(cstr!("saslSupportedMechs"), asked);
        }
        if let Some((_, Step::Send(command))) = &self.speculated {
            let mut command = command.clone();
            command.append(cstr!("db"), credential.source.as_str());
            hello.append(cstr!("speculativeAuthenticate"), command);
        }
    }

    /// Goes on after the hello's reply; `None` for a server that authenticates nobody.
    pub(crate) fn proceed(
        self,
        hello: &HelloReply,
    ) -> Result<Option<(Conversation, Step)>, (AuthMechanism, AuthFailure)> {
        if hello.server_type == ServerType::RsArbiter {
            return Ok(None);
        }
        let given = self.authenticator.credential.mechanism;
        let mechanism = given.unwrap_or_else(|| negotiated(hello));
        let fail = |failure| (mechanism, failure);
        let speculated = self.speculated.filter(|(c, _)| c.mechanism == mechanism);
        let answer = hello
            .document()
            .get_document("speculativeAuthenticate")
            .ok();
        if let (Some((mut conversation, _)), Some(answer)) = (speculated, answer) {
            match conversation.handle(answer) {
                // A token that fails here is offered again, to learn why.
                Err(_) if mechanism == AuthMechanism::MongoDbOidc => {}
                step => return Ok(Some((conversation, step.map_err(fail)?))),
            }
        }
        let begun = self.authenticator.begin(mechanism, self.nonce);
        begun.map(Some).map_err(fail)
    }
}

/// "Default Authentication Methods": SHA-256 where the server lists it for this user, else SHA-1,
/// listed or not. Other names in the list do not matter.
fn negotiated(hello: &HelloReply) -> AuthMechanism {
    let listed = hello.sasl_supported_mechs.as_ref();
    let sha256 = AuthMechanism::ScramSha256;
    if listed.is_some_and(|names| names.iter().any(|name| name == sha256.as_str())) {
        sha256
    } else {
        AuthMechanism::ScramSha1
    }
}

/// What a conversation needs next.
pub(crate) enum Step {
    /// Run this command on [`Conversation::database`] and hand its reply in.
    Send(RawDocumentBuf),
    /// Compute this, which takes milliseconds, or look it up, and hand the result in.
    Derive(Derivation),
    /// Look up AWS credentials, and hand them and the time in.
    #[cfg(feature = "aws")]
    Identify,
    /// Get an access token, and hand it in.
    #[cfg(feature = "oidc")]
    Token(Wish),
    /// The connection is authenticated.
    Done,
}

/// Not the command, which may hold a password.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(_) => "Send",
            Self::Derive(_) => "Derive",
            #[cfg(feature = "aws")]
            Self::Identify => "Identify",
            #[cfg(feature = "oidc")]
            Self::Token(_) => "Token",
            Self::Done => "Done",
        })
    }
}

/// One authentication of one connection.
#[derive(Debug)]
pub(crate) struct Conversation {
    mechanism: AuthMechanism,
    credential: Credential,
    state: State,
}

#[derive(Debug)]
enum State {
    Scram(Box<Scram>),
    Plain,
    X509,
    #[cfg(feature = "aws")]
    Aws(Aws),
    #[cfg(feature = "oidc")]
    Oidc(Box<Oidc>),
}

/// How a connection was authenticated, to do it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    pub(crate) mechanism: AuthMechanism,
    /// The access token, by its generation (the specification's Connection Cache).
    #[cfg(feature = "oidc")]
    token: Option<u64>,
}

impl Conversation {
    pub(crate) fn mechanism(&self) -> AuthMechanism {
        self.mechanism
    }

    /// The database that the commands go to.
    pub(crate) fn database(&self) -> &str {
        &self.credential.source
    }

    fn first_step(&self) -> Step {
        Step::Send(match &self.state {
            State::Scram(scram) => scram.first_command(),
            State::Plain => plain::command(&self.credential),
            State::X509 => x509::command(self.credential.username.as_deref()),
            #[cfg(feature = "aws")]
            State::Aws(aws) => aws.first_command(),
            #[cfg(feature = "oidc")]
            State::Oidc(_) => return Step::Token(Wish::default()),
        })
    }

    /// Takes the error that the last command was answered with.
    pub(crate) fn refused(&mut self, error: ServerError) -> Result<Step, AuthFailure> {
        #[cfg(feature = "oidc")]
        if let State::Oidc(oidc) = &mut self.state
            && let Some(step) = oidc.refused(&error)
        {
            return Ok(step);
        }
        Err(AuthFailure::Refused(Box::new(error)))
    }

    /// Takes the reply to the last command; `ok` was looked at before.
    pub(crate) fn handle(&mut self, reply: &RawDocument) -> Result<Step, AuthFailure> {
        match &mut self.state {
            State::Scram(scram) => scram.handle(reply),
            State::Plain => plain::handle(reply),
            State::X509 => Ok(Step::Done),
            #[cfg(feature = "aws")]
            State::Aws(aws) => aws.handle(reply),
            #[cfg(feature = "oidc")]
            State::Oidc(oidc) => oidc.handle(reply),
        }
    }

    /// Takes what was derived.
    pub(crate) fn derived(&mut self, keys: DerivedKeys) -> Result<Step, AuthFailure> {
        match &mut self.state {
            State::Scram(scram) => scram.derived(keys),
            _ => Err(AuthFailure::Malformed { field: "payload" }),
        }
    }

    /// Takes the AWS credentials to sign with, and the time.
    #[cfg(feature = "aws")]
    pub(crate) fn identified(
        &mut self,
        credentials: &AwsCredentials,
        now: bson::DateTime,
    ) -> Result<Step, AuthFailure> {
        match &mut self.state {
            State::Aws(aws) => aws.identified(credentials, now),
            _ => Err(AuthFailure::Malformed { field: "payload" }),
        }
    }

    /// Takes the access token that was wished for; `None` when only a human can get one.
    #[cfg(feature = "oidc")]
    pub(crate) fn given(&mut self, token: Option<&Token>) -> Result<Step, AuthFailure> {
        match &mut self.state {
            State::Oidc(oidc) => oidc.given(token),
            _ => Err(AuthFailure::Malformed { field: "payload" }),
        }
    }

    /// At the end: how the connection was authenticated.
    pub(crate) fn proof(&self) -> Proof {
        Proof {
            mechanism: self.mechanism,
            #[cfg(feature = "oidc")]
            token: match &self.state {
                State::Oidc(oidc) => oidc.taken(),
                _ => None,
            },
        }
    }

    /// At the end: the keys to use the next time.
    pub(crate) fn proved(&self) -> Option<&DerivedKeys> {
        match &self.state {
            State::Scram(scram) => scram.proved(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
