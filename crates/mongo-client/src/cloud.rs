//! Who this program is to the cloud it runs in: environment variables, files, and services at
//! well-known addresses, asked over HTTP by a library.

mod aws;
mod http;

use std::fmt;
use std::sync::Arc;

pub(crate) use self::aws::{AwsIdentity, AwsProvider};

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
