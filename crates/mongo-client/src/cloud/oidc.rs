//! Access tokens (Authentication specification, "MONGODB-OIDC"): of the application's callback, or
//! of the environment.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongo_uri::{OidcEnvironment, Secret, ServerAddress};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::http::Request;
use super::{Surroundings, read_file};
use crate::auth::{
    AllowedHosts, OidcContext, OidcFault, OidcIdpInfo, OidcToken, Origin, Token, TokenCache, Wish,
};

/// The version of the callback's interface.
const VERSION: u32 = 1;

/// How long a machine may take, unless `timeoutMS` is given.
const MACHINE_LIMIT: Duration = Duration::from_secs(60);

/// How long a human may take.
pub(crate) const HUMAN_LIMIT: Duration = Duration::from_secs(5 * 60);

/// The least time from one call to the next.
const CALL_INTERVAL: Duration = Duration::from_millis(100);

const AZURE: &str = "http://169.254.169.254";
const GCP: &str = "http://metadata";
const K8S_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

type Given = Result<OidcToken, Box<dyn std::error::Error + Send + Sync>>;
type Call = dyn Fn(OidcContext) -> Pin<Box<dyn Future<Output = Given> + Send>> + Send + Sync;

/// What an application gives its tokens with.
#[derive(Clone)]
pub(crate) struct OidcCallback(Arc<Call>);

impl OidcCallback {
    pub(crate) fn new<C, F, E>(callback: C) -> Self
    where
        C: Fn(OidcContext) -> F + Send + Sync + 'static,
        F: Future<Output = Result<OidcToken, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(Arc::new(move |context| {
            let given = callback(context);
            Box::pin(async { given.await.map_err(Into::into) })
        }))
    }
}

impl fmt::Debug for OidcCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OidcCallback")
    }
}

#[derive(Debug, Default)]
enum Provider {
    /// Another mechanism is in use.
    #[default]
    None,
    Machine(OidcCallback),
    Human(OidcCallback, AllowedHosts),
    Environment(OidcEnvironment),
}

/// Who a client is to an identity provider, and the token that it has.
#[derive(Debug, Default)]
pub(crate) struct OidcIdentity {
    provider: Provider,
    username: Option<String>,
    /// `TOKEN_RESOURCE`.
    resource: Option<String>,
    surroundings: Surroundings,
    /// `timeoutMS`, or `connectTimeoutMS` if that is less.
    limit: Option<Duration>,
    cache: Mutex<TokenCache>,
    /// One call at a time; when the last one began.
    turn: tokio::sync::Mutex<Option<Instant>>,
}

impl OidcIdentity {
    pub(crate) fn of_machine(callback: OidcCallback) -> Self {
        Self::new(Provider::Machine(callback))
    }

    pub(crate) fn of_human(callback: OidcCallback, hosts: AllowedHosts) -> Self {
        Self::new(Provider::Human(callback, hosts))
    }

    pub(crate) fn of_environment(environment: OidcEnvironment) -> Self {
        Self::new(Provider::Environment(environment))
    }

    fn new(provider: Provider) -> Self {
        Self {
            provider,
            ..Self::default()
        }
    }

    /// For a user and a resource that are known beforehand.
    pub(crate) fn with_names(mut self, user: Option<String>, resource: Option<String>) -> Self {
        self.username = user;
        self.resource = resource;
        self
    }

    pub(crate) fn within(mut self, surroundings: Surroundings, limit: Option<Duration>) -> Self {
        self.surroundings = surroundings;
        self.limit = limit;
        self
    }

    /// Whether a server may learn a token. A machine's tokens are for any that the connection
    /// string names.
    pub(crate) fn trusts(&self, server: &ServerAddress) -> bool {
        match &self.provider {
            Provider::Human(_, hosts) => hosts.allow(server),
            _ => true,
        }
    }

    /// The token that can be offered without asking anybody.
    pub(crate) fn kept(&self) -> Option<Token> {
        self.cache().kept()
    }

    /// The token that is kept, or else another one, which is kept then; `None` when only a human
    /// can get one, who has to know where. Calls wait for each other, and get what the first one
    /// got.
    ///
    /// # Errors
    /// [`OidcFault::NoToken`], [`OidcFault::Timeout`].
    pub(crate) async fn token(&self, wish: &Wish) -> Result<Option<Token>, OidcFault> {
        if let Some(generation) = wish.refused {
            self.cache().invalidate(generation, wish.forgets_refresh);
        }
        let mut last_call = self.turn.lock().await;
        if let Some(kept) = self.kept() {
            return Ok(Some(kept));
        }
        let (origin, idp, refresh_token) = match (&self.provider, &wish.idp) {
            (Provider::Human(..), None) => match self.cache().refresh() {
                Some((refresh, idp)) => (Origin::Refreshed, idp, Some(refresh)),
                None => return Ok(None),
            },
            (Provider::Human(..), Some(idp)) => (Origin::Fresh, Some(idp.clone()), None),
            _ => (Origin::Fresh, None, None),
        };
        if let Some(last) = *last_call {
            sleep_until(last + CALL_INTERVAL).await;
        }
        // Should this be given up meanwhile, it was called by then; otherwise it has certainly begun
        // by the time it ends, however late.
        *last_call = Some(Instant::now());
        let given = self.call(idp.clone(), refresh_token).await;
        *last_call = Some(Instant::now());
        let token = self.cache().keep(given?, origin, idp.as_ref());
        Ok(Some(token))
    }

    async fn call(
        &self,
        idp_info: Option<OidcIdpInfo>,
        refresh_token: Option<Secret>,
    ) -> Result<OidcToken, OidcFault> {
        let limit = match &self.provider {
            Provider::Human(..) => HUMAN_LIMIT,
            _ => self.limit.unwrap_or(MACHINE_LIMIT),
        };
        let asked = async {
            match &self.provider {
                Provider::None => Err("there is no callback and no ENVIRONMENT".to_owned()),
                Provider::Machine(callback) | Provider::Human(callback, _) => {
                    let context = OidcContext {
                        timeout: limit,
                        version: VERSION,
                        username: self.username.clone(),
                        idp_info,
                        refresh_token,
                    };
                    let given = (callback.0)(context).await;
                    given.map_err(|error| format!("the callback: {error}"))
                }
                Provider::Environment(environment) => {
                    self.of_surroundings(*environment, limit).await
                }
            }
        };
        let given = timeout(limit, asked).await;
        let given = given.map_err(|_| OidcFault::Timeout(limit))?;
        let given = given.map_err(OidcFault::NoToken)?;
        if given.access_token.expose().is_empty() {
            return Err(OidcFault::NoToken("what was given is empty".to_owned()));
        }
        Ok(given)
    }

    /// "Built-in OIDC Environment Integrations".
    async fn of_surroundings(
        &self,
        environment: OidcEnvironment,
        limit: Duration,
    ) -> Result<OidcToken, String> {
        let resource = self.resource.clone().unwrap_or_default();
        match environment {
            OidcEnvironment::Test => {
                let path = self.surroundings.variable("OIDC_TOKEN_FILE");
                let path = path.ok_or("OIDC_TOKEN_FILE is not set")?;
                Ok(OidcToken::new(read_file(&path).await?.as_str()))
            }
            OidcEnvironment::K8s => {
                let path = ["AZURE_FEDERATED_TOKEN_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"]
                    .into_iter()
                    .find_map(|name| self.surroundings.variable(name));
                let path = path.unwrap_or_else(|| K8S_TOKEN.to_owned());
                Ok(OidcToken::new(read_file(&path).await?.as_str()))
            }
            OidcEnvironment::Azure => {
                let url = self
                    .surroundings
                    .url(AZURE, "/metadata/identity/oauth2/token");
                let mut request = Request::get(url)
                    .query("api-version", "2018-02-01")
                    .query("resource", resource)
                    .header("Accept", "application/json")
                    .header("Metadata", "true");
                if let Some(client) = &self.username {
                    request = request.query("client_id", client);
                }
                azure_token(request.send(limit).await?.as_str())
            }
            OidcEnvironment::Gcp => {
                let path = "/computeMetadata/v1/instance/service-accounts/default/identity";
                let request = Request::get(self.surroundings.url(GCP, path))
                    .query("audience", resource)
                    .header("Metadata-Flavor", "Google");
                Ok(OidcToken::new(request.send(limit).await?.trim()))
            }
            other => Err(format!("ENVIRONMENT:{} is not known yet", other.as_str())),
        }
    }

    fn cache(&self) -> MutexGuard<'_, TokenCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct AzureAnswer {
    access_token: String,
    /// Seconds.
    expires_in: Option<String>,
}

/// Says of an answer that cannot be read nothing of what is there.
fn azure_token(answer: &str) -> Result<OidcToken, String> {
    let answer: AzureAnswer = serde_json::from_str(answer)
        .map_err(|error| format!("the answer has no token (column {})", error.column()))?;
    let token = OidcToken::new(answer.access_token);
    let seconds = answer.expires_in.and_then(|seconds| seconds.parse().ok());
    Ok(match seconds {
        Some(seconds) => token.expires_in(Duration::from_secs(seconds)),
        None => token,
    })
}
