//! Who this program is to the cloud it runs in: environment variables, files, and services at
//! well-known addresses, asked over HTTP by a library.

#[cfg(feature = "aws")]
mod aws;
mod http;
#[cfg(feature = "oidc")]
mod oidc;

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

#[cfg(feature = "aws")]
pub(crate) use self::aws::{AwsIdentity, AwsProvider};
#[cfg(feature = "oidc")]
pub(crate) use self::oidc::{HUMAN_LIMIT, OidcCallback, OidcIdentity};

type Variables = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Where the program runs. Tests bring surroundings of their own.
#[derive(Clone)]
pub(crate) struct Surroundings {
    variables: Arc<Variables>,
    /// Takes the place of scheme, host and port of every service.
    services: Option<String>,
}

impl Surroundings {
    pub(crate) fn new(
        variables: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
        services: Option<String>,
    ) -> Self {
        let variables = Arc::new(variables);
        Self {
            variables,
            services,
        }
    }

    /// An environment variable as it is now; one that is empty counts as not set.
    fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name).filter(|value| !value.is_empty())
    }

    /// The address of a service, such as `http://169.254.169.254`, with a path behind it.
    fn url(&self, service: &str, path: &str) -> String {
        let base = self.services.as_deref().unwrap_or(service);
        format!("{base}/{}", path.trim_start_matches('/'))
    }
}

/// A small file, such as clouds put tokens in, without the space around its content.
///
/// # Errors
/// For people, with the name of the file.
async fn read_file(path: &str) -> Result<Zeroizing<String>, String> {
    let name = path.to_owned();
    let content = tokio::task::spawn_blocking(move || std::fs::read_to_string(name)).await;
    let content = content.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let content = Zeroizing::new(content.map_err(|error| format!("{path}: {error}"))?);
    Ok(Zeroizing::new(content.trim().to_owned()))
}

impl Default for Surroundings {
    fn default() -> Self {
        Self::new(|name| std::env::var(name).ok(), None)
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Surroundings")
    }
}
