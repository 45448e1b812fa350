//! Small requests to the services of a cloud, each on a connection of its own.

use std::time::Duration;

use ureq::config::Config;
use ureq::http::Response;
use ureq::{Agent, Body};
use zeroize::Zeroizing;

/// The longest answer that is read; credentials are a hundredth of it.
const MAX_BODY: u64 = 256 * 1024;

/// One request.
pub(super) struct Request {
    method: Method,
    url: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
}

enum Method {
    Get,
    #[cfg(feature = "aws")]
    Put,
    #[cfg(feature = "aws")]
    Post(Vec<(&'static str, String)>),
}

impl Request {
    pub(super) fn get(url: String) -> Self {
        Self::new(Method::Get, url)
    }

    /// Without a body.
    #[cfg(feature = "aws")]
    pub(super) fn put(url: String) -> Self {
        Self::new(Method::Put, url)
    }

    /// A form with these fields.
    #[cfg(feature = "aws")]
    pub(super) fn post(url: String, form: Vec<(&'static str, String)>) -> Self {
        Self::new(Method::Post(form), url)
    }

    fn new(method: Method, url: String) -> Self {
        let (query, headers) = (Vec::new(), Vec::new());
        Self {
            method,
            url,
            query,
            headers,
        }
    }

    /// The value is encoded.
    #[cfg(feature = "oidc")]
    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends it and reads the answer's body. Dropping the future leaves a thread behind that goes
    /// on for `limit` at most.
    ///
    /// # Errors
    /// Who was asked and what came of it, for people: any status but 200 is an error, with the
    /// body.
    pub(super) async fn send(self, limit: Duration) -> Result<Zeroizing<String>, String> {
        let url = self.url.clone();
        let sent = tokio::task::spawn_blocking(move || self.exchange(limit)).await;
        let sent = sent.unwrap_or_else(|error| Err(error.to_string()));
        sent.map_err(|error| format!("{url}: {error}"))
    }

    fn exchange(self, limit: Duration) -> Result<Zeroizing<String>, String> {
        let mut answer = self.call(limit).map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(MAX_BODY);
        let body = body.read_to_string().map_err(|error| error.to_string())?;
        let body = Zeroizing::new(body);
        if status == 200 {
            Ok(body)
        } else {
            Err(format!("HTTP status {status}: {}", body.trim()))
        }
    }

    fn call(self, limit: Duration) -> Result<Response<Body>, ureq::Error> {
        let agent = agent(limit, &self.url);
        match self.method {
            Method::Get => {
                let mut request = agent.get(&self.url).query_pairs(self.query);
                for (name, value) in self.headers {
                    request = request.header(name, value);
                }
                request.call()
            }
            #[cfg(feature = "aws")]
            Method::Put => {
                let mut request = agent.put(&self.url);
                for (name, value) in self.headers {
                    request = request.header(name, value);
                }
                request.send_empty()
            }
            #[cfg(feature = "aws")]
            Method::Post(form) => {
                let mut request = agent.post(&self.url);
                for (name, value) in self.headers {
                    request = request.header(name, value);
                }
                request.send_form(form)
            }
        }
    }
}

/// Neither proxies nor redirects: an answer of anybody else is worth nothing.
fn agent(limit: Duration, url: &str) -> Agent {
    let config = Config::builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None);
    #[cfg(feature = "aws")]
    if url.starts_with("https:") {
        return config.tls_config(tls()).build().new_agent();
    }
    debug_assert!(url.starts_with("http:"), "only AWS has services behind TLS");
    config.build().new_agent()
}

/// The machine's own authorities, as for servers.
#[cfg(feature = "aws")]
fn tls() -> ureq::tls::TlsConfig {
    use std::sync::Arc;

    use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

    let found = rustls_native_certs::load_native_certs().certs;
    let certificates = found
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned());
    let certificates: Vec<_> = certificates.collect();
    let provider = rustls::crypto::ring::default_provider();
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(Arc::new(provider))
        .build()
}

#[cfg(all(test, feature = "aws"))]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[tokio::test]
    async fn a_service_that_is_not_who_it_says_is_told_nothing() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};

            let (mut stream, _) = listener.accept().unwrap();
            let mut first = [0; 1024];
            let length = stream.read(&mut first).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            first[..length].to_vec()
        });
        let form = vec![("WebIdentityToken", "hunter2".to_owned())];
        let request = Request::post(format!("https://{address}/"), form);
        let error = request.send(Duration::from_secs(10)).await.unwrap_err();
        assert!(
            error.starts_with(&format!("https://{address}/: ")),
            "{error}"
        );
        // The first record of a TLS handshake.
        assert_eq!(heard.join().unwrap()[..2], [22, 3]);
    }
}
