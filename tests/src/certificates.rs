//! Certificates made for one test: an authority, and what it signs.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};

/// An authority that signs what it is told to.
#[derive(Debug)]
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate in PEM form.
    pub certificate: String,
    /// The private key.
    pub key: KeyPair,
}

impl Authority {
    /// A new one; no two are alike, whatever they are called.
    ///
    /// # Panics
    /// When no certificate can be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// The authority's own certificate in PEM form.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for host names and IP addresses, for a server or a client.
    ///
    /// # Panics
    /// When no certificate can be made.
    #[must_use]
    pub fn sign(&self, common_name: &str, names: &[&str]) -> Identity {
        self.sign_params(&params(common_name, names))
    }

    /// As [`Self::sign`], but out of date since 2021.
    ///
    /// # Panics
    /// When no certificate can be made.
    #[must_use]
    pub fn sign_expired(&self, common_name: &str, names: &[&str]) -> Identity {
        let mut params = params(common_name, names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.sign_params(&params)
    }

    fn sign_params(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certificate: certificate.pem(),
            key,
        }
    }
}

impl Identity {
    /// Certificate and key in one file, as servers and clients take them.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificate.clone() + &self.key.serialize_pem()
    }
}

/// Writes a file and returns its path.
///
/// # Panics
/// When it cannot be written.
pub fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("a temporary file can be written");
    path
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names that certificates can be for");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    // mongod shows its certificate to itself, too.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}
