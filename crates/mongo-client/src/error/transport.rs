//! Why a byte stream to a server could not be had: TLS, its files, the proxy.
//!
//! These types are there with and without the feature `tls`, and name no type of rustls.

use std::io;
use std::time::Duration;

/// Why a DNS seed list was not found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsFailure {
    /// The resolver failed.
    #[error("the look-up failed: {0}; check the name, and this machine's name servers")]
    Failed(#[source] io::Error),
    /// The resolver did not answer.
    #[error("no answer within {0:?}; check this machine's name servers")]
    Timeout(Duration),
}

/// Why two sides that reached each other do not trust each other, or cannot agree on TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The chain of certificates ends in no authority that this client trusts.
    #[error(
        "the server's certificate is signed by no authority that this client trusts; give the \
         authority's certificate in tlsCAFile"
    )]
    UnknownIssuer,
    /// The server's certificate is for other names than the one in its address.
    #[error(
        "the server's certificate is not for the host name in its address but for {}; connect by \
         a name that it has, or renew it with this name",
        names_or_none(names)
    )]
    WrongHostName {
        /// Names and addresses that the certificate is for, if the TLS library told them.
        names: Vec<String>,
    },
    /// The server's certificate is out of date.
    #[error("the server's certificate has expired; renew it, or correct this machine's clock")]
    Expired,
    /// The server's certificate is for the future.
    #[error("the server's certificate is not valid yet; correct this machine's clock")]
    NotYetValid,
    /// The server's certificate was taken back by its issuer.
    #[error("the server's certificate is revoked; renew it")]
    Revoked,
    /// The server's certificate cannot be accepted for another reason.
    #[error("the server's certificate cannot be accepted: {reason}")]
    BadCertificate {
        /// What the TLS library says.
        reason: String,
    },
    /// The server asked for a certificate, got none, and ended the connection before its first
    /// reply.
    #[error(
        "the server asked for a client certificate and, without one, ended the connection; give \
         it in tlsCertificateKeyFile"
    )]
    ClientCertificateMissing,
    /// The server asked for a certificate, got one, and ended the connection before its first
    /// reply.
    #[error(
        "the server ended the connection after it saw the client certificate; give one in \
         tlsCertificateKeyFile that an authority trusted by the server has signed"
    )]
    ClientCertificateRefused,
    /// The server's address is no name that a certificate can be for.
    #[error("a certificate cannot be for this address; use a host name or an IP address")]
    NoServerName,
    /// The peer does not speak TLS, or no version or cipher suite is common to both sides.
    #[error("the two sides cannot agree on TLS, if the server speaks it at all: {reason}")]
    Protocol {
        /// What the TLS library says.
        reason: String,
    },
}

impl TlsFailure {
    /// True when all that is known is that the server ended the connection, which a server does
    /// that dies, too.
    #[must_use]
    pub const fn is_hang_up(&self) -> bool {
        matches!(
            self,
            Self::ClientCertificateMissing | Self::ClientCertificateRefused
        )
    }
}

fn names_or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Why a file that a TLS option names cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFileProblem {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The file is no PEM.
    #[error("it is not in PEM form: {reason}")]
    NotPem {
        /// What is wrong with it.
        reason: String,
    },
    /// The file has no certificate that can be used.
    #[error("it holds no usable certificate (BEGIN CERTIFICATE)")]
    NoCertificate,
    /// The file has no private key.
    #[error("it holds no private key (BEGIN PRIVATE KEY); put it into the same file")]
    NoPrivateKey,
    /// The private key is encrypted and no password is given.
    #[error("its private key is encrypted; give tlsCertificateKeyFilePassword")]
    PasswordMissing,
    /// The private key cannot be decrypted with the password that is given.
    #[error("its private key cannot be decrypted; tlsCertificateKeyFilePassword may be wrong")]
    WrongPassword,
    /// The private key is encrypted in a way that is not supported.
    #[error(
        "its private key is encrypted in an unsupported way ({reason}); convert it with \
         `openssl pkcs8 -topk8 -v2 aes-256-cbc`"
    )]
    UnsupportedEncryption {
        /// In which way.
        reason: String,
    },
    /// The private key belongs to another certificate.
    #[error("its private key does not belong to its first certificate")]
    KeyMismatch,
    /// The certificate or the private key is of a kind that cannot be used.
    #[error("its certificate or private key cannot be used: {reason}")]
    Unusable {
        /// What the TLS library says.
        reason: String,
    },
}

/// Why a SOCKS5 proxy did not open the way to a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyFailure {
    /// The proxy's name cannot be resolved, or no connection to it can be opened.
    #[error("the proxy cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// The connection to the proxy broke before the way was open.
    #[error("the connection to the proxy broke: {0}")]
    Broken(#[source] io::Error),
    /// The peer answers as no SOCKS5 proxy does.
    #[error("the peer is no SOCKS5 proxy, or a faulty one: {reason}")]
    NotSocks5 {
        /// What is wrong with the answer.
        reason: &'static str,
    },
    /// The proxy wants an authentication that was not offered.
    #[error(
        "the proxy takes no authentication that was offered; give proxyUsername and proxyPassword"
    )]
    AuthenticationRequired,
    /// The proxy does not accept user name and password.
    #[error("the proxy refused proxyUsername and proxyPassword")]
    AuthenticationRefused,
    /// User name, password or host name are longer than SOCKS5 can say.
    #[error("{what} is empty or longer than 255 bytes, which SOCKS5 cannot say")]
    Unsayable {
        /// Which of them.
        what: &'static str,
    },
    /// The proxy could not, or would not, connect to the server.
    #[error("the proxy did not connect to the server: {refusal}")]
    Refused {
        /// Its reason.
        refusal: ProxyRefusal,
    },
}

/// The reason that a SOCKS5 proxy gives for not connecting (RFC 1928, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyRefusal {
    /// Code 1, or one that RFC 1928 does not know.
    General(u8),
    /// Code 2.
    NotAllowed,
    /// Code 3.
    NetworkUnreachable,
    /// Code 4; also when the proxy cannot resolve the name.
    HostUnreachable,
    /// Code 5.
    ConnectionRefused,
    /// Code 6.
    TtlExpired,
    /// Code 7.
    CommandUnsupported,
    /// Code 8.
    AddressTypeUnsupported,
}

impl ProxyRefusal {
    /// The meaning of a reply's code; 0 is no refusal.
    pub(crate) const fn of(code: u8) -> Self {
        match code {
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::ConnectionRefused,
            6 => Self::TtlExpired,
            7 => Self::CommandUnsupported,
            8 => Self::AddressTypeUnsupported,
            other => Self::General(other),
        }
    }
}

impl std::fmt::Display for ProxyRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::General(code) => return write!(f, "general failure (code {code})"),
            Self::NotAllowed => "its rules do not allow it",
            Self::NetworkUnreachable => "the network is unreachable",
            Self::HostUnreachable => "the host is unreachable or unknown to it",
            Self::ConnectionRefused => "the connection was refused",
            Self::TtlExpired => "the time to live expired",
            Self::CommandUnsupported => "it cannot open connections",
            Self::AddressTypeUnsupported => "it does not take addresses of this kind",
        })
    }
}
