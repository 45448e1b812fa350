//! A whole connection string, parsed.

use std::fmt;
use std::str::FromStr;

use crate::address::ServerAddress;
use crate::credential::{self, Credential};
use crate::error::UriError;
use crate::grammar::{self, Target};
use crate::options::{self, UriOptions};
use crate::percent;
use crate::secret::REDACTED;
use crate::validate::validate;
use crate::warning::{Warning, WarningKind};

/// A parsed connection string. Its `Debug` and `Display` show no secret.
///
/// The fields are the connection string's meaning. `Display` writes it back: options under their
/// canonical names and in a fixed order, what was ignored left out, secrets as `***`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionString {
    /// The servers to ask first, in order; empty for `mongodb+srv` until the records are resolved
    /// ([`ConnectionString::resolve`]).
    pub hosts: Vec<ServerAddress>,
    /// The DNS name behind `mongodb+srv://`, in lower case; `None` for `mongodb://`.
    pub srv_host: Option<String>,
    /// The database named after the hosts.
    pub default_database: Option<String>,
    /// Whom to authenticate as; `None` if nothing asks for authentication.
    pub credential: Option<Credential>,
    /// The options.
    pub options: UriOptions,
    /// What was ignored or is deprecated; to be logged by the caller.
    pub warnings: Vec<Warning>,
}

impl ConnectionString {
    /// Parses a connection string.
    ///
    /// # Errors
    ///
    /// [`UriError`] says where the text is wrong and what to do. Values that an option does not
    /// take are no error: they are ignored and told in [`ConnectionString::warnings`], as the
    /// Connection String specification asks, except where ignoring them could weaken security.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let parts = grammar::split(text)?;
        let (mut options, mut warnings) = options::read(&parts.options)?;
        let (hosts, srv_host) = match parts.target {
            Target::Hosts(hosts) => (hosts, None),
            Target::Srv(name) => {
                options.tls.enabled.get_or_insert(true);
                (Vec::new(), Some(name))
            }
        };
        let credential = credential::build(parts.user, parts.database.as_deref(), &options.auth)?;
        warnings.extend(credential_warning(credential.as_ref(), &options));
        let parsed = Self {
            hosts,
            srv_host,
            default_database: parts.database,
            credential,
            options,
            warnings,
        };
        validate(&parsed)?;
        Ok(parsed)
    }

    /// Makes the credential and the checks anew after the options have changed.
    pub(crate) fn rebuild(&mut self) -> Result<(), UriError> {
        let user = self.credential.take().and_then(|credential| {
            credential
                .username
                .map(|username| (username, credential.password))
        });
        let database = self.default_database.as_deref();
        self.credential = credential::build(user, database, &self.options.auth)?;
        validate(self)
    }

    fn write_user(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Credential {
            username: Some(username),
            password,
            ..
        }) = &self.credential
        else {
            return Ok(());
        };
        f.write_str(&percent::encode(username))?;
        if password.is_some() {
            write!(f, ":{REDACTED}")?;
        }
        f.write_str("@")
    }

    fn write_hosts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.srv_host {
            return f.write_str(&percent::encode(name));
        }
        for (index, host) in self.hosts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match host {
                ServerAddress::Tcp { host, port } if host.contains(':') => {
                    write!(f, "[{}]:{port}", host.replace('%', "%25"))?;
                }
                ServerAddress::Tcp { host, port } => write!(f, "{}:{port}", percent::encode(host))?,
                ServerAddress::Unix { path } => {
                    f.write_str(&percent::encode(&path.to_string_lossy()))?;
                }
            }
        }
        Ok(())
    }
}

/// What is odd about authentication though it can be used.
fn credential_warning(credential: Option<&Credential>, options: &UriOptions) -> Option<Warning> {
    let properties = options.auth.properties != Default::default();
    (credential.is_none() && properties).then(|| Warning {
        option: "authMechanismProperties".to_owned(),
        value: REDACTED.to_owned(),
        kind: WarningKind::WithoutCredential,
    })
}

impl FromStr for ConnectionString {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(text)
    }
}

impl fmt::Display for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.srv_host.is_some() {
            "mongodb+srv://"
        } else {
            "mongodb://"
        })?;
        self.write_user(f)?;
        self.write_hosts(f)?;
        f.write_str("/")?;
        if let Some(database) = &self.default_database {
            f.write_str(&percent::encode(database))?;
        }
        for (index, (name, value)) in options::written(&self.options).into_iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            write!(
                f,
                "{separator}{name}={}",
                percent::encode_option_value(&value)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
