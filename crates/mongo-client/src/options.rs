//! What a client is made of: a connection string, and what no string can say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mongo_uri::ConnectionString;

#[cfg(feature = "aws")]
use crate::auth::AwsCredentials;
#[cfg(feature = "oidc")]
use crate::auth::{AllowedHosts, OidcContext, OidcToken};
#[cfg(feature = "aws")]
use crate::cloud::AwsProvider;
#[cfg(feature = "oidc")]
use crate::cloud::OidcCallback;
#[cfg(any(feature = "aws", feature = "oidc"))]
use crate::cloud::Surroundings;
use crate::dns::{self, Resolver};
use crate::error::Result;
use crate::events::{Event, EventListener};
use crate::server_api::ServerApi;
use crate::spans::TracingOptions;

/// A connection string and what cannot be written in one.
///
/// ```
/// use mongo_client::ClientOptions;
///
/// let options = ClientOptions::parse("mongodb://localhost:27017/?replicaSet=rs0")?;
/// # Ok::<(), mongo_client::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientOptions {
    pub(crate) uri: ConnectionString,
    pub(crate) listener: Option<EventListener>,
    pub(crate) max_log_document_length: Option<usize>,
    pub(crate) tracing: TracingOptions,
    /// Takes the place of this machine's DNS.
    pub(crate) resolver: Option<Arc<dyn Resolver>>,
    /// How long the records of the seed list may be kept, once they are looked up.
    pub(crate) seed_list_ttl: Option<Duration>,
    /// Takes the place of that, in tests.
    pub(crate) rescan_interval: Option<Duration>,
    pub(crate) server_api: Option<ServerApi>,
    pub(crate) jitter: Option<Jitter>,
    #[cfg(feature = "aws")]
    pub(crate) aws: Option<AwsProvider>,
    #[cfg(feature = "oidc")]
    pub(crate) oidc: OidcOptions,
    #[cfg(any(feature = "aws", feature = "oidc"))]
    pub(crate) surroundings: Surroundings,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl ClientOptions {
    /// The options that a connection string spells out.
    ///
    /// # Errors
    /// [`Error::Uri`](crate::Error::Uri) when it cannot be parsed.
    pub fn parse(uri: &str) -> Result<Self> {
        Ok(ConnectionString::parse(uri)?.into())
    }

    /// Called for everything that happens in the client, in the order in which it happens; see
    /// [`events`](crate::events) for what it may do. There is one listener: the last one given.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// How many characters of a document stand in the logs; the rest is cut off. 1,000 where this
    /// is not said.
    #[must_use]
    pub fn max_log_document_length(mut self, characters: usize) -> Self {
        self.max_log_document_length = Some(characters);
        self
    }

    /// Tells of operations and commands by spans of `tracing`, with the names and attributes that
    /// the specification OpenTelemetry gives them. Without this, an environment variable decides,
    /// and if there is none, there are no spans.
    ///
    /// ```
    /// use mongo_client::{ClientOptions, TracingOptions};
    ///
    /// let mut tracing = TracingOptions::default();
    /// tracing.enabled = Some(true);
    /// let options = ClientOptions::parse("mongodb://localhost:27017")?.tracing(tracing);
    /// # Ok::<(), mongo_client::Error>(())
    /// ```
    #[must_use]
    pub fn tracing(mut self, tracing: TracingOptions) -> Self {
        self.tracing = tracing;
        self
    }

    /// Looks names up by this, and not by this machine's DNS.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolver + 'static) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Looks up the seed list of a `mongodb+srv` connection string, which completes its hosts and
    /// options; nothing is looked up for any other, nor a second time.
    ///
    /// # Errors
    /// [`Error::Dns`](crate::Error::Dns) when the records cannot be had,
    /// [`Error::Uri`](crate::Error::Uri) when they break a rule.
    pub async fn resolve(mut self) -> Result<Self> {
        let resolver = self.resolver.clone().unwrap_or_else(dns::own);
        if let Some((uri, ttl)) = dns::resolve(&*resolver, &self.uri).await? {
            self.uri = uri;
            self.seed_list_ttl = ttl;
        }
        Ok(self)
    }

    /// Declares a version of the Stable API with every command.
    #[must_use]
    pub fn server_api(mut self, api: ServerApi) -> Self {
        self.server_api = Some(api);
        self
    }

    /// What to multiply the pause before an overloaded server is tried again with, instead of
    /// chance: a number from 0 to 1. For tests of what depends on such pauses.
    #[doc(hidden)]
    #[must_use]
    pub fn jitter(mut self, jitter: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.jitter = Some(Jitter(Arc::new(jitter)));
        self
    }

    /// Where the credentials of `authMechanism=MONGODB-AWS` come from, in the place of the
    /// environment and of AWS's own services: an SDK of AWS, for example. Called for every
    /// connection that is opened, also at the same time; to keep credentials is its own business.
    ///
    /// What it does is part of the time that `connectTimeoutMS` gives to authentication. An error
    /// fails the connection.
    #[cfg(feature = "aws")]
    #[must_use]
    pub fn aws_credentials<P, F, E>(mut self, provide: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = std::result::Result<AwsCredentials, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.aws = Some(AwsProvider::new(provide));
        self
    }

    /// Where the access tokens of `authMechanism=MONGODB-OIDC` come from, for a program that needs
    /// nobody to log in. Called when there is no token, or a server has refused the one that is
    /// kept; one call at a time, a tenth of a second apart at least. An error fails the connection.
    #[cfg(feature = "oidc")]
    #[must_use]
    pub fn oidc_callback<C, F, E>(mut self, callback: C) -> Self
    where
        C: Fn(OidcContext) -> F + Send + Sync + 'static,
        F: Future<Output = std::result::Result<OidcToken, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.oidc.machine = Some(OidcCallback::new(callback));
        self
    }

    /// As [`oidc_callback`](Self::oidc_callback), for a program whose user logs in: the callback is
    /// told where ([`OidcContext::idp_info`]), and has five minutes. Only servers that are
    /// [allowed](Self::oidc_allowed_hosts) learn the token.
    ///
    /// Operations wait for that, but no longer than `timeoutMS` if it is given; the log-in goes on,
    /// and later ones find its token.
    #[cfg(feature = "oidc")]
    #[must_use]
    pub fn oidc_human_callback<C, F, E>(mut self, callback: C) -> Self
    where
        C: Fn(OidcContext) -> F + Send + Sync + 'static,
        F: Future<Output = std::result::Result<OidcToken, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.oidc.human = Some(OidcCallback::new(callback));
        self
    }

    /// Names or addresses of the servers that may learn the token of a human, without ports;
    /// `*.example.com` stands for every host below `example.com`. Where this is not said, Atlas and
    /// this machine.
    #[cfg(feature = "oidc")]
    #[must_use]
    pub fn oidc_allowed_hosts<H: Into<String>>(
        mut self,
        hosts: impl IntoIterator<Item = H>,
    ) -> Self {
        self.oidc.allowed_hosts = Some(AllowedHosts::new(hosts.into_iter().map(Into::into)));
        self
    }

    /// Takes the place of this process's environment variables and, if a base such as
    /// `http://127.0.0.1:8080` is given, of the services of the cloud it runs in. For tests.
    #[cfg(any(feature = "aws", feature = "oidc"))]
    #[doc(hidden)]
    #[must_use]
    pub fn surroundings(
        mut self,
        variables: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
        services: Option<String>,
    ) -> Self {
        self.surroundings = Surroundings::new(variables, services);
        self
    }

    /// Uses TLS as this configuration of rustls says: its trusted authorities, its client
    /// certificate, its versions and cipher suites. Connections then use TLS even if the
    /// connection string does not mention it; its options about certificates must not be given
    /// beside it. Sessions are not resumed, whatever the configuration says.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn rustls(mut self, config: impl Into<Arc<rustls::ClientConfig>>) -> Self {
        self.tls = Some(config.into());
        self
    }

    /// How long opening a connection may take because a human has to log in.
    pub(crate) fn login_limit(&self) -> Option<Duration> {
        #[cfg(feature = "oidc")]
        if self.oidc.human.is_some() {
            return Some(crate::cloud::HUMAN_LIMIT);
        }
        None
    }

    /// Whether connections are encrypted.
    pub(crate) fn uses_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return true;
        }
        self.uri.options.tls.is_required()
    }
}

/// What no connection string can say of MONGODB-OIDC.
#[cfg(feature = "oidc")]
#[derive(Clone, Default)]
pub(crate) struct OidcOptions {
    pub(crate) machine: Option<OidcCallback>,
    pub(crate) human: Option<OidcCallback>,
    pub(crate) allowed_hosts: Option<AllowedHosts>,
}

/// See [`ClientOptions::jitter`].
#[derive(Clone)]
pub(crate) struct Jitter(Arc<dyn Fn() -> f64 + Send + Sync>);

impl Jitter {
    pub(crate) fn next(&self) -> f64 {
        (self.0)()
    }
}

impl fmt::Debug for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jitter")
    }
}

impl From<ConnectionString> for ClientOptions {
    fn from(uri: ConnectionString) -> Self {
        Self {
            uri,
            listener: None,
            max_log_document_length: None,
            tracing: TracingOptions::default(),
            resolver: None,
            seed_list_ttl: None,
            rescan_interval: None,
            server_api: None,
            jitter: None,
            #[cfg(feature = "aws")]
            aws: None,
            #[cfg(feature = "oidc")]
            oidc: OidcOptions::default(),
            #[cfg(any(feature = "aws", feature = "oidc"))]
            surroundings: Surroundings::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("uri", &self.uri)
            .field("heard", &self.listener.is_some())
            .field("server_api", &self.server_api)
            .field("uses_tls", &self.uses_tls())
            .finish_non_exhaustive()
    }
}
