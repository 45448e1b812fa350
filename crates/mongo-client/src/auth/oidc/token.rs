//! Access tokens: how an application gives them, and how long a client keeps them.

use std::time::Duration;

use bson::RawDocument;
use mongo_uri::Secret;

use crate::auth::AuthFailure;

/// What a callback is told, to get an access token with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OidcContext {
    /// How long the callback may take; its future is dropped then.
    pub timeout: Duration,
    /// The version of this interface: 1.
    pub version: u32,
    /// The user name in the connection string.
    pub username: Option<String>,
    /// Where a human can log in; a machine's callback is not told.
    pub idp_info: Option<OidcIdpInfo>,
    /// What a human's callback has returned before, to be spared the log-in; `None` in a new one.
    pub refresh_token: Option<Secret>,
}

/// What a server says of its identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OidcIdpInfo {
    /// The authorization server's URL, to find its metadata with (RFC 8414).
    pub issuer: String,
    /// Who the application is to it; a provider for machines has none.
    pub client_id: Option<String>,
    /// More scopes to ask for.
    pub request_scopes: Vec<String>,
}

impl OidcIdpInfo {
    /// Reads a server's answer to a `PrincipalStepRequest`.
    pub(super) fn read(payload: &[u8]) -> Result<Self, AuthFailure> {
        let malformed = |field| AuthFailure::Malformed { field };
        let message = RawDocument::from_bytes(payload).map_err(|_| malformed("payload"))?;
        let issuer = message.get_str("issuer").map_err(|_| malformed("issuer"))?;
        let mut request_scopes = Vec::new();
        if let Ok(scopes) = message.get_array("requestScopes") {
            for scope in scopes {
                let scope = scope.ok().and_then(|scope| scope.as_str());
                let scope = scope.ok_or(malformed("requestScopes"))?;
                request_scopes.push(scope.to_owned());
            }
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            client_id: message.get_str("clientId").ok().map(str::to_owned),
            request_scopes,
        })
    }
}

/// What a callback returns. `Debug` shows no token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OidcToken {
    /// As its issuer has signed it.
    pub access_token: Secret,
    /// How long it is valid, as its issuer says. For later: so far a token is used until a server
    /// refuses it, as the specification has it.
    pub expires_in: Option<Duration>,
    /// What a human's callback gets back when the access token is of no more use.
    pub refresh_token: Option<Secret>,
}

impl OidcToken {
    /// An access token alone.
    pub fn new(access_token: impl Into<String>) -> Self {
        Self {
            access_token: Secret::new(access_token),
            expires_in: None,
            refresh_token: None,
        }
    }

    /// Sets [`Self::refresh_token`].
    #[must_use]
    pub fn refresh_token(mut self, token: impl Into<String>) -> Self {
        self.refresh_token = Some(Secret::new(token));
        self
    }

    /// Sets [`Self::expires_in`].
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }
}

/// Where a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was there.
    Kept,
    /// The application had it for a refresh token.
    Refreshed,
    /// The application had it from the identity provider.
    Fresh,
}

/// A token to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: Secret,
    /// Counts the tokens of a client.
    pub(crate) generation: u64,
    pub(crate) origin: Origin,
}

/// A client's last token ("Credential Caching", the Client Cache).
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    generation: u64,
    access: Option<Secret>,
    refresh: Option<Secret>,
    idp: Option<OidcIdpInfo>,
}

impl TokenCache {
    pub(crate) fn kept(&self) -> Option<Token> {
        Some(Token {
            text: self.access.clone()?,
            generation: self.generation,
            origin: Origin::Kept,
        })
    }

    /// What spares a human the log-in.
    pub(crate) fn refresh(&self) -> Option<(Secret, Option<OidcIdpInfo>)> {
        Some((self.refresh.clone()?, self.idp.clone()))
    }

    /// Drops a token that was refused, and the refresh token too if it was had for that, unless
    /// there is a newer one.
    pub(crate) fn invalidate(&mut self, generation: u64, forgets_refresh: bool) {
        if self.generation == generation {
            self.access = None;
            self.refresh.take_if(|_| forgets_refresh);
        }
    }

    /// Keeps what the application gave. A refreshed token may come without another refresh token:
    /// the old one is still good.
    pub(crate) fn keep(
        &mut self,
        given: OidcToken,
        origin: Origin,
        idp: Option<&OidcIdpInfo>,
    ) -> Token {
        self.generation += 1;
        if origin == Origin::Fresh || given.refresh_token.is_some() {
            self.refresh = given.refresh_token;
        }
        if idp.is_some() {
            self.idp = idp.cloned();
        }
        self.access = Some(given.access_token.clone());
        Token {
            text: given.access_token,
            generation: self.generation,
            origin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idp() -> OidcIdpInfo {
        OidcIdpInfo {
            issuer: "https://issuer".to_owned(),
            client_id: None,
            request_scopes: Vec::new(),
        }
    }

    #[test]
    fn only_the_token_that_was_refused_is_dropped() {
        let mut cache = TokenCache::default();
        assert_eq!(cache.kept(), None);
        let first = cache.keep(OidcToken::new("a"), Origin::Fresh, None);
        let kept = cache.kept().unwrap();
        assert_eq!(
            (kept.generation, kept.origin),
            (first.generation, Origin::Kept)
        );
        let second = cache.keep(OidcToken::new("b"), Origin::Fresh, None);
        cache.invalidate(first.generation, true);
        assert_eq!(cache.kept().unwrap().text, second.text);
        cache.invalidate(second.generation, false);
        assert_eq!(cache.kept(), None);
    }

    #[test]
    fn a_refresh_token_outlives_its_access_token_until_it_is_of_no_use() {
        let mut cache = TokenCache::default();
        let given = OidcToken::new("a").refresh_token("r");
        let first = cache.keep(given, Origin::Fresh, Some(&idp()));
        cache.invalidate(first.generation, false);
        let known = Some((Secret::new("r"), Some(idp())));
        assert_eq!(cache.refresh(), known);
        // Refreshed without another one.
        let second = cache.keep(OidcToken::new("b"), Origin::Refreshed, Some(&idp()));
        assert_eq!(cache.refresh(), known);
        cache.invalidate(second.generation, true);
        assert_eq!((cache.kept(), cache.refresh()), (None, None));
    }

    #[test]
    fn a_log_in_without_a_refresh_token_forgets_the_old_one() {
        let mut cache = TokenCache::default();
        let given = OidcToken::new("a").refresh_token("r");
        cache.keep(given, Origin::Fresh, Some(&idp()));
        cache.keep(OidcToken::new("b"), Origin::Fresh, Some(&idp()));
        assert_eq!(cache.refresh(), None);
    }

    #[test]
    fn no_token_is_shown() {
        let token = OidcToken::new("hunter2").refresh_token("hunter2");
        let mut cache = TokenCache::default();
        let kept = cache.keep(token.clone(), Origin::Fresh, None);
        let shown = format!("{token:?} {cache:?} {kept:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
