//! The table of options: for each its name, its type and where its value is kept.

use std::time::Duration;

use super::UriOptions;
use super::custom::{self, Reader, Writer};
use super::value::{self, HEARTBEAT, NON_NEGATIVE, NON_NEGATIVE_LONG, POSITIVE, Range, Refusal};
use crate::secret::{REDACTED, Secret};
use crate::warning::WarningKind;

/// Finds an option's place, making room for it. Called for writing only once a value is there, so
/// that an ignored option leaves no trace.
type Place<T> = fn(&mut UriOptions) -> &mut Option<T>;

pub(super) enum Kind {
    Text(Place<String>),
    Secret(Place<Secret>),
    Flag(Place<bool>),
    Millis(Range, Place<Duration>),
    Count(Range, Place<u32>),
    /// An option with rules of its own.
    Custom(Reader, Writer),
}

pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

const fn entry(name: &'static str, kind: Kind) -> Entry {
    Entry { name, kind }
}

/// All options under their canonical names, in the order in which `Display` writes them.
#[rustfmt::skip]
pub(super) static OPTIONS: &[Entry] = &[
    entry("authMechanism", Kind::Custom(custom::read_mechanism, custom::write_mechanism)),
    entry("authSource", Kind::Custom(custom::read_source, custom::write_source)),
    entry("authMechanismProperties", Kind::Custom(custom::read_properties, custom::write_properties)),
    entry("gssapiServiceName", Kind::Custom(custom::read_service_name, custom::write_nothing)),
    entry("replicaSet", Kind::Text(|o| &mut o.replica_set)),
    entry("directConnection", Kind::Flag(|o| &mut o.direct_connection)),
    entry("loadBalanced", Kind::Flag(|o| &mut o.load_balanced)),
    entry("appName", Kind::Custom(custom::read_app_name, custom::write_app_name)),
    entry("connectTimeoutMS", Kind::Millis(NON_NEGATIVE, |o| &mut o.connect_timeout)),
    entry("serverSelectionTimeoutMS", Kind::Millis(NON_NEGATIVE, |o| &mut o.server_selection_timeout)),
    entry("serverSelectionTryOnce", Kind::Flag(|o| &mut o.server_selection_try_once)),
    entry("socketTimeoutMS", Kind::Millis(NON_NEGATIVE, |o| &mut o.socket_timeout)),
    entry("timeoutMS", Kind::Millis(NON_NEGATIVE, |o| &mut o.timeout)),
    entry("heartbeatFrequencyMS", Kind::Millis(HEARTBEAT, |o| &mut o.heartbeat_frequency)),
    entry("localThresholdMS", Kind::Millis(NON_NEGATIVE, |o| &mut o.local_threshold)),
    entry("serverMonitoringMode", Kind::Custom(custom::read_monitoring, custom::write_monitoring)),
    entry("readPreference", Kind::Custom(custom::read_mode, custom::write_mode)),
    entry("readPreferenceTags", Kind::Custom(custom::read_tags, custom::write_tags)),
    entry("maxStalenessSeconds", Kind::Custom(custom::read_staleness, custom::write_staleness)),
    entry("readConcernLevel", Kind::Custom(custom::read_level, custom::write_level)),
    entry("w", Kind::Custom(custom::read_w, custom::write_w)),
    entry("journal", Kind::Flag(|o| &mut o.write_concern.get_or_insert_default().journal)),
    entry("wTimeoutMS", Kind::Millis(NON_NEGATIVE_LONG, |o| &mut o.write_concern.get_or_insert_default().w_timeout)),
    entry("retryReads", Kind::Flag(|o| &mut o.retry_reads)),
    entry("retryWrites", Kind::Flag(|o| &mut o.retry_writes)),
    entry("maxAdaptiveRetries", Kind::Count(NON_NEGATIVE, |o| &mut o.max_adaptive_retries)),
    entry("enableOverloadRetargeting", Kind::Flag(|o| &mut o.enable_overload_retargeting)),
    entry("compressors", Kind::Custom(custom::read_compressors, custom::write_compressors)),
    entry("zlibCompressionLevel", Kind::Custom(custom::read_zlib_level, custom::write_zlib_level)),
    entry("tls", Kind::Flag(|o| &mut o.tls.enabled)),
    entry("tlsInsecure", Kind::Flag(|o| &mut o.tls.insecure)),
    entry("tlsAllowInvalidCertificates", Kind::Flag(|o| &mut o.tls.allow_invalid_certificates)),
    entry("tlsAllowInvalidHostnames", Kind::Flag(|o| &mut o.tls.allow_invalid_hostnames)),
    entry("tlsCAFile", Kind::Text(|o| &mut o.tls.ca_file)),
    entry("tlsCertificateKeyFile", Kind::Text(|o| &mut o.tls.certificate_key_file)),
    entry("tlsCertificateKeyFilePassword", Kind::Secret(|o| &mut o.tls.certificate_key_file_password)),
    entry("tlsDisableCertificateRevocationCheck", Kind::Flag(|o| &mut o.tls.disable_certificate_revocation_check)),
    entry("tlsDisableOCSPEndpointCheck", Kind::Flag(|o| &mut o.tls.disable_ocsp_endpoint_check)),
    entry("maxPoolSize", Kind::Count(NON_NEGATIVE, |o| &mut o.pool.max_size)),
    entry("minPoolSize", Kind::Count(NON_NEGATIVE, |o| &mut o.pool.min_size)),
    entry("maxConnecting", Kind::Count(POSITIVE, |o| &mut o.pool.max_connecting)),
    entry("maxIdleTimeMS", Kind::Millis(NON_NEGATIVE, |o| &mut o.pool.max_idle_time)),
    entry("waitQueueTimeoutMS", Kind::Millis(POSITIVE, |o| &mut o.pool.wait_queue_timeout)),
    entry("proxyHost", Kind::Custom(custom::read_proxy_host, custom::write_proxy_host)),
    entry("proxyPort", Kind::Custom(custom::read_proxy_port, custom::write_proxy_port)),
    entry("proxyUsername", Kind::Text(|o| &mut o.proxy.get_or_insert_default().username)),
    entry("proxyPassword", Kind::Secret(|o| &mut o.proxy.get_or_insert_default().password)),
    entry("srvServiceName", Kind::Custom(custom::read_service, custom::write_service)),
    entry("srvAllowedHostsSuffix", Kind::Custom(custom::read_allowed_suffix, custom::write_allowed_suffix)),
    entry("srvMaxHosts", Kind::Count(NON_NEGATIVE, |o| &mut o.srv.max_hosts)),
];

impl Entry {
    /// Takes a value, or says why not; `warnings` gets what is to be said of a value that was
    /// taken.
    pub(super) fn read(
        &self,
        options: &mut UriOptions,
        text: &str,
        warnings: &mut Vec<WarningKind>,
    ) -> Result<(), Refusal> {
        match &self.kind {
            Kind::Text(place) => *place(options) = Some(value::present(text)?.to_owned()),
            Kind::Secret(place) => *place(options) = Some(Secret::new(value::present(text)?)),
            Kind::Flag(place) => *place(options) = Some(value::flag(text, warnings)?),
            Kind::Millis(range, place) => *place(options) = Some(value::millis(text, range)?),
            Kind::Count(range, place) => *place(options) = Some(value::count(text, range)?),
            Kind::Custom(read, _) => read(options, text, warnings)?,
        }
        Ok(())
    }

    /// The values of this option as a connection string writes them, decoded, secrets redacted.
    fn write(&self, options: &mut UriOptions) -> Vec<String> {
        let value = match &self.kind {
            Kind::Text(place) => place(options).clone(),
            Kind::Secret(place) => place(options).as_ref().map(|_| REDACTED.to_owned()),
            Kind::Flag(place) => place(options).map(|flag| flag.to_string()),
            Kind::Millis(_, place) => place(options).map(|time| time.as_millis().to_string()),
            Kind::Count(_, place) => place(options).map(|count| count.to_string()),
            Kind::Custom(_, write) => return write(options),
        };
        value.into_iter().collect()
    }

    /// True if warnings must not show this option's value.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret(_)) || self.name == "authMechanismProperties"
    }
}

/// Every option that is set, as canonical name and decoded value, secrets redacted.
pub(crate) fn written(options: &UriOptions) -> Vec<(&'static str, String)> {
    // A copy, because a place is reached through a mutable reference.
    let mut options = options.clone();
    OPTIONS
        .iter()
        .flat_map(|entry| {
            entry
                .write(&mut options)
                .into_iter()
                .map(move |value| (entry.name, value))
        })
        .collect()
}
