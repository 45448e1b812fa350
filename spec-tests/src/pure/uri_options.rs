//! The meaning of a connection string's options as the tests write it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use mongo_uri::{
    Acknowledgment, AuthMechanism, ConnectionString, MechanismProperties, ProxyOptions,
    ReadPreference, TlsOptions, UriOptions, WriteConcern,
};
use serde_json::{Map, Value, json};

use crate::json::expect_equal;

/// Checks each of the expected options; there may be others.
pub fn check(parsed: &ConnectionString, expected: &Value) -> Result<()> {
    for (name, expected) in expected.as_object().context("options is no object")? {
        let actual = value(&parsed.options, name)?;
        if name.eq_ignore_ascii_case("authMechanismProperties") {
            check_properties(&actual, expected)?;
        } else {
            expect_equal(name, &actual, expected)?;
        }
    }
    Ok(())
}

/// Checks that each of the expected mechanism properties is there; there may be others.
pub fn check_properties(actual: &Value, expected: &Value) -> Result<()> {
    for (name, expected) in expected.as_object().context("properties are no object")? {
        expect_equal(name, actual.get(name).unwrap_or(&Value::Null), expected)?;
    }
    Ok(())
}

/// An option's value; null if it is not set.
fn value(options: &UriOptions, name: &str) -> Result<Value> {
    let found = general(options, name)
        .or_else(|| concerns(options, name))
        .or_else(|| tls(&options.tls, name))
        .or_else(|| others(options, name));
    match found {
        Some(value) => Ok(value),
        None => bail!("the test names the option {name}, of which the test runner does not know"),
    }
}

fn millis(duration: Option<Duration>) -> Value {
    json!(duration.map(|duration| u64::try_from(duration.as_millis()).ok()))
}

fn general(o: &UriOptions, name: &str) -> Option<Value> {
    Some(match name.to_ascii_lowercase().as_str() {
        "appname" => json!(o.app_name),
        "replicaset" => json!(o.replica_set),
        "directconnection" => json!(o.direct_connection),
        "loadbalanced" => json!(o.load_balanced),
        "connecttimeoutms" => millis(o.connect_timeout),
        "serverselectiontimeoutms" => millis(o.server_selection_timeout),
        "serverselectiontryonce" => json!(o.server_selection_try_once),
        "sockettimeoutms" => millis(o.socket_timeout),
        "timeoutms" => millis(o.timeout),
        "heartbeatfrequencyms" => millis(o.heartbeat_frequency),
        "localthresholdms" => millis(o.local_threshold),
        "servermonitoringmode" => json!(o.server_monitoring_mode.map(|mode| mode.as_str())),
        "retryreads" => json!(o.retry_reads),
        "retrywrites" => json!(o.retry_writes),
        "maxadaptiveretries" => json!(o.max_adaptive_retries),
        "enableoverloadretargeting" => json!(o.enable_overload_retargeting),
        "zlibcompressionlevel" => json!(o.zlib_compression_level),
        "compressors" => {
            let names = |list: &Vec<_>| list.iter().map(ToString::to_string).collect::<Vec<_>>();
            json!(o.compressors.as_ref().map(names))
        }
        _ => return None,
    })
}

fn concerns(o: &UriOptions, name: &str) -> Option<Value> {
    let write = o.write_concern.clone().unwrap_or_default();
    let read = o.read_preference.clone().unwrap_or_default();
    Some(match name.to_ascii_lowercase().as_str() {
        "readconcernlevel" => {
            let level = o
                .read_concern
                .as_ref()
                .and_then(|concern| concern.level.as_ref());
            json!(level.map(|level| level.as_str()))
        }
        "w" => w(&write),
        "journal" => json!(write.journal),
        "wtimeoutms" => millis(write.w_timeout),
        "readpreference" => json!(read.mode.as_str()),
        "readpreferencetags" => tags(&read),
        "maxstalenessseconds" => json!(read.max_staleness.map(|staleness| staleness.as_secs())),
        _ => return None,
    })
}

/// `w` as the tests write it: a number, a string, or null.
pub fn w(concern: &WriteConcern) -> Value {
    match &concern.w {
        Some(Acknowledgment::Nodes(nodes)) => json!(nodes),
        other => json!(other.as_ref().map(ToString::to_string)),
    }
}

fn tags(preference: &ReadPreference) -> Value {
    preference.tag_sets.iter().map(|set| json!(set.0)).collect()
}

fn tls(tls: &TlsOptions, name: &str) -> Option<Value> {
    let password = tls.certificate_key_file_password.as_ref();
    Some(match name.to_ascii_lowercase().as_str() {
        "tls" | "ssl" => json!(tls.enabled),
        "tlsinsecure" => json!(tls.insecure),
        "tlsallowinvalidcertificates" => json!(tls.allow_invalid_certificates),
        "tlsallowinvalidhostnames" => json!(tls.allow_invalid_hostnames),
        "tlscafile" => json!(tls.ca_file),
        "tlscertificatekeyfile" => json!(tls.certificate_key_file),
        "tlscertificatekeyfilepassword" => json!(password.map(|secret| secret.expose())),
        "tlsdisablecertificaterevocationcheck" => json!(tls.disable_certificate_revocation_check),
        "tlsdisableocspendpointcheck" => json!(tls.disable_ocsp_endpoint_check),
        _ => return None,
    })
}

fn others(o: &UriOptions, name: &str) -> Option<Value> {
    let proxy = o.proxy.clone();
    let of_proxy = |get: fn(ProxyOptions) -> Value| proxy.map_or(Value::Null, get);
    Some(match name.to_ascii_lowercase().as_str() {
        "maxpoolsize" => json!(o.pool.max_size),
        "minpoolsize" => json!(o.pool.min_size),
        "maxconnecting" => json!(o.pool.max_connecting),
        "maxidletimems" => millis(o.pool.max_idle_time),
        "waitqueuetimeoutms" => millis(o.pool.wait_queue_timeout),
        "proxyhost" => of_proxy(|proxy| json!(proxy.host)),
        "proxyport" => of_proxy(|proxy| json!(proxy.port)),
        "proxyusername" => of_proxy(|proxy| json!(proxy.username)),
        "proxypassword" => of_proxy(|proxy| json!(proxy.password.map(|p| p.expose().to_owned()))),
        "srvservicename" => json!(o.srv.service_name),
        "srvmaxhosts" => json!(o.srv.max_hosts),
        "srvallowedhostssuffix" => json!(o.srv.allowed_hosts_suffix),
        "authsource" => json!(o.auth.source),
        "authmechanism" => json!(o.auth.mechanism.map(AuthMechanism::as_str)),
        "authmechanismproperties" => properties(&o.auth.properties),
        _ => return None,
    })
}

/// The mechanism properties that are set, by their names.
pub fn properties(properties: &MechanismProperties) -> Value {
    let p = properties;
    let canonicalize = p.canonicalize_host_name.map(|mode| mode.as_str());
    let all = [
        ("SERVICE_NAME", p.service_name.as_deref()),
        ("SERVICE_REALM", p.service_realm.as_deref()),
        ("SERVICE_HOST", p.service_host.as_deref()),
        ("CANONICALIZE_HOST_NAME", canonicalize),
        (
            "ENVIRONMENT",
            p.environment.map(|environment| environment.as_str()),
        ),
        ("TOKEN_RESOURCE", p.token_resource.as_deref()),
    ];
    let set = all
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
    Value::Object(set.collect::<Map<_, _>>())
}
