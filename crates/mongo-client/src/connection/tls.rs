//! TLS by rustls: a configuration from the URI's options or the caller's own, the handshake, and
//! what its failures mean.
//!
//! What is checked of the server's certificate, by URI option:
//!
//! | option | chain and dates | name in the address |
//! |---|---|---|
//! | none of them | checked | checked |
//! | `tlsAllowInvalidHostnames` | checked | not checked |
//! | `tlsAllowInvalidCertificates` | not checked | checked |
//! | `tlsInsecure`, or both of the above | not checked | not checked |
//!
//! That the server holds the certificate's private key is always checked. Revocation lists and
//! OCSP never are, so `tlsDisableCertificateRevocationCheck` and `tlsDisableOCSPEndpointCheck` ask
//! for what is so anyway.

mod files;
mod stream;
mod verify;

use std::io;
use std::sync::Arc;

use mongo_uri::{ServerAddress, TlsOptions};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use self::stream::{Watched, Witness};
use self::verify::LenientVerifier;
use super::ByteStream;
use crate::error::{Error, IoAction, Misuse, Result, TlsFailure};
use crate::options::ClientOptions;

/// How a client's connections are encrypted.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// `None` when nothing asks for TLS. Reads files, but never talks to anybody.
    ///
    /// # Errors
    /// [`Error::TlsFile`], [`Error::Misuse`].
    pub(super) fn new(options: &ClientOptions) -> Result<Option<Self>> {
        let given = &options.uri.options.tls;
        let config = match &options.tls {
            Some(config) => {
                refuse_beside_own(given)?;
                Arc::clone(config)
            }
            None if given.is_required() => Arc::new(config_from(given)?),
            None => return Ok(None),
        };
        Ok(Some(Self { config }))
    }

    /// Shakes hands over a stream to the server. Dropping the future closes the stream.
    ///
    /// # Errors
    /// [`Error::Tls`]; [`Error::Io`] when the stream breaks.
    pub(super) async fn connect(
        &self,
        server: &ServerAddress,
        stream: Box<dyn ByteStream>,
    ) -> Result<Box<dyn ByteStream>> {
        let Some(name) = server_name(server) else {
            return Err(Error::Tls {
                server: server.clone(),
                failure: Box::new(TlsFailure::NoServerName),
            });
        };
        let witness = Arc::new(Witness::new(&self.config));
        let mut config = ClientConfig::clone(&self.config);
        config.client_auth_cert_resolver = Arc::clone(&witness) as _;
        match TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
        {
            Ok(stream) => Ok(Box::new(Watched::new(stream, witness))),
            Err(error) => {
                let error = suspected(explained(error, &witness));
                Err(Error::of_stream(server, IoAction::Tls, error))
            }
        }
    }
}

/// The name that goes into SNI, unless it is an IP address, and that the certificate must be for.
/// Whoever listens on a unix socket is on this machine.
fn server_name(server: &ServerAddress) -> Option<ServerName<'static>> {
    let host = server.host().unwrap_or("localhost");
    // The zone says where an address is reached from, not what it is.
    let host = host.split_once('%').map_or(host, |(address, _)| address);
    // The dot that ends a fully qualified name stands in no certificate.
    let host = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}

fn refuse_beside_own(given: &TlsOptions) -> Result<()> {
    let others = TlsOptions {
        enabled: None,
        ..given.clone()
    };
    let what = if given.enabled == Some(false) {
        "a rustls configuration and tls=false"
    } else if others != TlsOptions::default() {
        "a rustls configuration and TLS options other than `tls`"
    } else {
        return Ok(());
    };
    Err(Error::Misuse(Misuse::Contradiction { what }))
}

fn config_from(options: &TlsOptions) -> Result<ClientConfig> {
    let insecure = options.insecure == Some(true);
    let checks_chain = !(insecure || options.allow_invalid_certificates == Some(true));
    let checks_name = !(insecure || options.allow_invalid_hostnames == Some(true));
    let roots = match &options.ca_file {
        Some(file) => files::authorities(file)?,
        None if checks_chain => system_authorities()?,
        None => RootCertStore::empty(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of every version");
    let builder = if checks_chain && checks_name {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| no_authorities(&error))?;
        builder.with_webpki_verifier(verifier)
    } else {
        let verifier = LenientVerifier {
            roots: checks_chain.then_some(roots),
            checks_name,
            algorithms: provider.signature_verification_algorithms,
        };
        let builder = builder.dangerous();
        builder.with_custom_certificate_verifier(Arc::new(verifier))
    };
    let mut config = match &options.certificate_key_file {
        Some(file) => {
            let password = options.certificate_key_file_password.as_ref();
            let identity = files::identity(file, password)?;
            builder
                .with_client_auth_cert(identity.chain, identity.key)
                .map_err(|error| files::unusable_identity(file, &error))?
        }
        None => builder.with_no_client_auth(),
    };
    // In a resumed session no server asks for a certificate, so that nobody could tell why it
    // ends the connection. Pooled connections live long enough to do without.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn system_authorities() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let first = found.errors.first().map(ToString::to_string);
        return Err(no_authorities(&first.as_deref().unwrap_or("it is empty")));
    }
    Ok(roots)
}

fn no_authorities(reason: &dyn std::fmt::Display) -> Error {
    Error::Misuse(Misuse::NoAuthorities {
        reason: reason.to_string(),
    })
}

/// An error of a TLS stream, with a [`TlsFailure`] inside where it is one.
fn explained(error: io::Error, witness: &Witness) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(error) = inner {
        return io::Error::other(failure(error, witness));
    }
    error
}

/// An error of the handshake, with a guess where it says nothing.
fn suspected(error: io::Error) -> io::Error {
    match error.kind() {
        // What a server does that takes the first bytes of TLS for a message with a mad length.
        kind @ (io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            io::Error::new(kind, format!("{error} (does the server have TLS on?)"))
        }
        _ => error,
    }
}

fn failure(error: &rustls::Error, witness: &Witness) -> TlsFailure {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(error) => certificate_failure(error),
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => witness.refusal().unwrap_or_else(|| TlsFailure::Protocol {
            reason: error.to_string(),
        }),
        _ => TlsFailure::Protocol {
            reason: error.to_string(),
        },
    }
}

fn certificate_failure(error: &CertificateError) -> TlsFailure {
    match error {
        CertificateError::UnknownIssuer => TlsFailure::UnknownIssuer,
        CertificateError::NotValidForName => TlsFailure::WrongHostName { names: Vec::new() },
        CertificateError::NotValidForNameContext { presented, .. } => TlsFailure::WrongHostName {
            names: presented.iter().map(|name| bare_name(name)).collect(),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFailure::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFailure::NotYetValid
        }
        CertificateError::Revoked => TlsFailure::Revoked,
        other => TlsFailure::BadCertificate {
            reason: other.to_string(),
        },
    }
}

/// `db.example` of `DnsName("db.example")`, as rustls writes it; anything else as it is.
fn bare_name(written: &str) -> String {
    let inside = |prefix, suffix| written.strip_prefix(prefix)?.strip_suffix(suffix);
    inside("DnsName(\"", "\")")
        .or_else(|| inside("IpAddress(", ")"))
        .unwrap_or(written)
        .to_owned()
}

#[cfg(test)]
mod tests;
