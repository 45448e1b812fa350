//! The files that TLS options name: certificates and keys in PEM form.

use std::path::Path;

use mongo_uri::Secret;
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::SecretDocument;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::error::{Error, Result, TlsFileProblem};

const CA_FILE: &str = "tlsCAFile";
const CERTIFICATE_KEY_FILE: &str = "tlsCertificateKeyFile";

const ENCRYPTED_BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
/// The line by which OpenSSL's own encryption of keys, older than PKCS#8, is known.
const LEGACY_ENCRYPTION: &str = "Proc-Type: 4,ENCRYPTED";

/// A client's certificate, its issuers behind it, and its private key.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// The authorities in a file, of which those that cannot be read are left out.
///
/// # Errors
/// [`Error::TlsFile`].
pub(super) fn authorities(file: &str) -> Result<RootCertStore> {
    let found = read(file).and_then(|content| {
        let mut roots = RootCertStore::empty();
        let (added, ignored) = roots.add_parsable_certificates(certificates(&content)?);
        if ignored > 0 {
            tracing::warn!(file, ignored, "certificate authorities that cannot be read");
        }
        if added == 0 {
            return Err(TlsFileProblem::NoCertificate);
        }
        Ok(roots)
    });
    found.map_err(|problem| error(CA_FILE, file, problem))
}

/// The certificate and the key in a file; the password is not needed for a key in the clear.
///
/// # Errors
/// [`Error::TlsFile`].
pub(super) fn identity(file: &str, password: Option<&Secret>) -> Result<Identity> {
    let found = read(file).and_then(|content| {
        refuse_legacy_encryption(&content)?;
        let chain = certificates(&content)?;
        if chain.is_empty() {
            return Err(TlsFileProblem::NoCertificate);
        }
        let key = private_key(&content, password)?;
        Ok(Identity { chain, key })
    });
    found.map_err(|problem| error(CERTIFICATE_KEY_FILE, file, problem))
}

/// Why certificate and key of a file do not serve as an identity.
pub(super) fn unusable_identity(file: &str, why: &rustls::Error) -> Error {
    let problem = match why {
        rustls::Error::InconsistentKeys(_) => TlsFileProblem::KeyMismatch,
        other => TlsFileProblem::Unusable {
            reason: other.to_string(),
        },
    };
    error(CERTIFICATE_KEY_FILE, file, problem)
}

fn error(option: &'static str, file: &str, problem: TlsFileProblem) -> Error {
    Error::TlsFile {
        option,
        file: file.into(),
        problem,
    }
}

type Found<T> = std::result::Result<T, TlsFileProblem>;

fn read(file: &str) -> Found<Zeroizing<Vec<u8>>> {
    let bytes = std::fs::read(Path::new(file)).map_err(TlsFileProblem::Unreadable)?;
    Ok(Zeroizing::new(bytes))
}

fn certificates(content: &[u8]) -> Found<Vec<CertificateDer<'static>>> {
    let certificates: std::result::Result<_, _> = CertificateDer::pem_slice_iter(content).collect();
    certificates.map_err(|error| not_pem(&error))
}

fn private_key(content: &[u8], password: Option<&Secret>) -> Found<PrivateKeyDer<'static>> {
    // What is not text is no key either.
    let text = std::str::from_utf8(content).unwrap_or_default();
    if let Some(section) = encrypted_section(text) {
        let password = password.ok_or(TlsFileProblem::PasswordMissing)?;
        return decrypt(section, password);
    }
    match PrivateKeyDer::from_pem_slice(content) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(TlsFileProblem::NoPrivateKey),
        Err(error) => Err(not_pem(&error)),
    }
}

/// Nothing else of such a file can be read either, as its lines are no PEM of today.
fn refuse_legacy_encryption(content: &[u8]) -> Found<()> {
    let text = std::str::from_utf8(content).unwrap_or_default();
    if text.contains(LEGACY_ENCRYPTION) {
        let reason = "not PKCS#8".to_owned();
        return Err(TlsFileProblem::UnsupportedEncryption { reason });
    }
    Ok(())
}

fn encrypted_section(text: &str) -> Option<&str> {
    let text = &text[text.find(ENCRYPTED_BEGIN)?..];
    let end = text.find(ENCRYPTED_END)? + ENCRYPTED_END.len();
    Some(&text[..end])
}

fn decrypt(section: &str, password: &Secret) -> Found<PrivateKeyDer<'static>> {
    let (_, document) =
        SecretDocument::from_pem(section).map_err(|error| TlsFileProblem::NotPem {
            reason: error.to_string(),
        })?;
    let unsupported = |error: pkcs8::Error| TlsFileProblem::UnsupportedEncryption {
        reason: error.to_string(),
    };
    let encrypted =
        EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(unsupported)?;
    let key = encrypted.decrypt(password.expose()).map_err(|error| {
        use pkcs8::pkcs5::Error as Encryption;
        match error {
            pkcs8::Error::EncryptedPrivateKey(
                Encryption::UnsupportedAlgorithm { .. }
                | Encryption::AlgorithmParametersInvalid { .. }
                | Encryption::NoPbes1CryptSupport,
            ) => unsupported(error),
            // A wrong password fails to decrypt, or decrypts to what is no key.
            _ => TlsFileProblem::WrongPassword,
        }
    })?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

fn not_pem(error: &pem::Error) -> TlsFileProblem {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end".to_owned(),
        pem::Error::IllegalSectionStart { .. } => {
            "a section begins with a malformed line".to_owned()
        }
        other => other.to_string(),
    };
    TlsFileProblem::NotPem { reason }
}

#[cfg(test)]
mod tests;
