//! MONGODB-OIDC: an access token of an identity provider (Authentication specification,
//! "MONGODB-OIDC").
//!
//! Whoever has a token offers it in one step. A human's application asks the server for the
//! identity provider first, and logs in there: two steps.

mod hosts;
mod token;

use std::fmt;

use bson::{RawDocument, RawDocumentBuf, rawdoc};
use mongo_wire::ServerError;

pub(crate) use self::hosts::AllowedHosts;
pub use self::token::{OidcContext, OidcIdpInfo, OidcToken};
pub(crate) use self::token::{Origin, Token, TokenCache};
use super::Step;
use super::failure::AuthFailure;
use super::sasl::{self, SaslReply};

const MECHANISM: &str = "MONGODB-OIDC";

/// `AuthenticationFailed`.
const FAILED: i32 = 18;

/// How many tokens a server may refuse before that is an error: the one that was kept, and the one
/// that was had for a refresh token.
const MAX_REFUSALS: u32 = 2;

/// What a conversation wants of the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Not this token, by its generation: a server has refused it.
    pub(crate) refused: Option<u64>,
    /// Nor the refresh token that it was had for.
    pub(crate) forgets_refresh: bool,
    /// Where a human can log in.
    pub(crate) idp: Option<OidcIdpInfo>,
}

/// The client's side of one exchange.
///
/// ```text
///        token                     taken
/// Began -------> Offered ------------------------> Taken
///   |  ^            |  refused, and it was not a fresh one
///   |  +------------+
///   | no token      ^ token
///   +-------> Asked --identity provider--> Informed
///
/// Any --whatever breaks the rules--> Broken
/// ```
pub(super) struct Oidc {
    username: Option<String>,
    refusals: u32,
    state: State,
}

enum State {
    /// Waits for a token that somebody has.
    Began,
    /// Has sent a token.
    Offered {
        generation: u64,
        origin: Origin,
    },
    /// Has said who it is.
    Asked,
    /// Waits for the token of a human.
    Informed {
        conversation: i32,
    },
    Taken {
        generation: u64,
    },
    Broken,
}

impl Oidc {
    pub(super) fn new(username: Option<String>) -> Self {
        Self {
            username,
            refusals: 0,
            state: State::Began,
        }
    }

    pub(super) fn handle(&mut self, reply: &RawDocument) -> Result<Step, AuthFailure> {
        let reply = SaslReply::parse(reply)?;
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Offered { generation, .. } if reply.done => {
                self.state = State::Taken { generation };
                Ok(Step::Done)
            }
            State::Asked if !reply.done => {
                let idp = Some(OidcIdpInfo::read(reply.payload)?);
                let conversation = reply.conversation;
                self.state = State::Informed { conversation };
                Ok(Step::Token(Wish {
                    idp,
                    ..Wish::default()
                }))
            }
            _ => Err(AuthFailure::Malformed { field: "done" }),
        }
    }

    /// Takes the token that was wished for; `None` when only a human can get one.
    pub(super) fn given(&mut self, token: Option<&Token>) -> Result<Step, AuthFailure> {
        let state = std::mem::replace(&mut self.state, State::Broken);
        let command = match (state, token) {
            (State::Began, Some(token)) => {
                self.offer(token);
                one_step(token)
            }
            (State::Began, None) => {
                self.state = State::Asked;
                self.principal()
            }
            (State::Informed { conversation }, Some(token)) => {
                let (generation, origin) = (token.generation, Origin::Fresh);
                self.state = State::Offered { generation, origin };
                sasl::go_on(conversation, jwt(token).as_bytes())
            }
            _ => return Err(AuthFailure::Malformed { field: "payload" }),
        };
        Ok(Step::Send(command))
    }

    /// What to do after a refusal; `None` when there is nothing else to try.
    pub(super) fn refused(&mut self, error: &ServerError) -> Option<Step> {
        let state = std::mem::replace(&mut self.state, State::Broken);
        let State::Offered { generation, origin } = state else {
            return None;
        };
        let is_over = origin == Origin::Fresh || self.refusals == MAX_REFUSALS;
        if is_over || error.code != Some(FAILED) {
            return None;
        }
        self.refusals += 1;
        self.state = State::Began;
        Some(Step::Token(Wish {
            refused: Some(generation),
            forgets_refresh: origin == Origin::Refreshed,
            idp: None,
        }))
    }

    /// At the end: the token that the server has taken, by its generation.
    pub(super) fn taken(&self) -> Option<u64> {
        match self.state {
            State::Taken { generation } => Some(generation),
            _ => None,
        }
    }

    fn offer(&mut self, token: &Token) {
        self.state = State::Offered {
            generation: token.generation,
            origin: token.origin,
        };
    }

    /// `PrincipalStepRequest`.
    fn principal(&self) -> RawDocumentBuf {
        let message = match &self.username {
            Some(name) => rawdoc! { "n": name.as_str() },
            None => RawDocumentBuf::new(),
        };
        sasl::start(MECHANISM, message.as_bytes())
    }
}

fn one_step(token: &Token) -> RawDocumentBuf {
    sasl::start(MECHANISM, jwt(token).as_bytes())
}

/// `JwtStepRequest`.
fn jwt(token: &Token) -> RawDocumentBuf {
    rawdoc! { "jwt": token.text.expose() }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Began => "Oidc(Began)",
            State::Offered { .. } => "Oidc(Offered)",
            State::Asked => "Oidc(Asked)",
            State::Informed { .. } => "Oidc(Informed)",
            State::Taken { .. } => "Oidc(Taken)",
            State::Broken => "Oidc(Broken)",
        })
    }
}

#[cfg(test)]
mod tests;
