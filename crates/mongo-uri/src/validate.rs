//! Rules between options, hosts and scheme; each is cited where it is checked.

use crate::concern::UnacknowledgedJournal;
use crate::connection_string::ConnectionString;
use crate::error::{OptionProblem, UriError};

/// Checks a connection string as a whole; also called after TXT records have added to it.
pub(crate) fn validate(parsed: &ConnectionString) -> Result<(), UriError> {
    topology_modes(parsed)?;
    srv_options(parsed)?;
    proxy(parsed)?;
    concerns(parsed)?;
    pool(parsed)
}

fn conflict(
    first: &'static str,
    second: &'static str,
    advice: &'static str,
) -> Result<(), UriError> {
    Err(UriError::Conflict {
        first,
        second,
        advice,
    })
}

/// URI Options specification, "directConnection URI option with multiple seeds or SRV URI"; Load
/// Balancer specification, "URI Validation".
fn topology_modes(parsed: &ConnectionString) -> Result<(), UriError> {
    let options = &parsed.options;
    let direct = options.direct_connection == Some(true);
    let many = parsed.hosts.len() > 1;
    if direct && many {
        return conflict(
            "directConnection=true",
            "several hosts",
            "name the one host to talk to",
        );
    }
    if direct && parsed.srv_host.is_some() {
        return conflict(
            "directConnection=true",
            "mongodb+srv",
            "name the host with mongodb://",
        );
    }
    if options.load_balanced != Some(true) {
        return Ok(());
    }
    if many {
        return conflict(
            "loadBalanced=true",
            "several hosts",
            "name the load balancer alone",
        );
    }
    if options.replica_set.is_some() {
        return conflict("loadBalanced=true", "replicaSet", "remove one of them");
    }
    if direct {
        return conflict(
            "loadBalanced=true",
            "directConnection=true",
            "remove one of them",
        );
    }
    Ok(())
}

/// Initial DNS Seedlist Discovery specification, "URI Validation".
fn srv_options(parsed: &ConnectionString) -> Result<(), UriError> {
    let srv = &parsed.options.srv;
    if parsed.srv_host.is_none() {
        let given = [
            ("srvServiceName", srv.service_name.is_some()),
            ("srvMaxHosts", srv.max_hosts.is_some()),
            ("srvAllowedHostsSuffix", srv.allowed_hosts_suffix.is_some()),
        ];
        return match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(UriError::Option {
                option,
                problem: OptionProblem::SrvOnly,
            }),
            None => Ok(()),
        };
    }
    if srv.max_hosts.unwrap_or(0) > 0 {
        if parsed.options.replica_set.is_some() {
            return conflict(
                "srvMaxHosts",
                "replicaSet",
                "remove one of them or set srvMaxHosts=0",
            );
        }
        if parsed.options.load_balanced == Some(true) {
            return conflict(
                "srvMaxHosts",
                "loadBalanced=true",
                "remove one of them or set srvMaxHosts=0",
            );
        }
    }
    Ok(())
}

/// SOCKS5 specification, "MongoClient Configuration".
fn proxy(parsed: &ConnectionString) -> Result<(), UriError> {
    let Some(proxy) = &parsed.options.proxy else {
        return Ok(());
    };
    let needs = |option, other| {
        Err(UriError::Option {
            option,
            problem: OptionProblem::Needs { other },
        })
    };
    let (user, password) = (proxy.username.is_some(), proxy.password.is_some());
    if proxy.host.is_empty() {
        let option = match (proxy.port, user) {
            (Some(_), _) => "proxyPort",
            (None, true) => "proxyUsername",
            (None, false) => "proxyPassword",
        };
        return needs(option, "proxyHost");
    }
    match (user, password) {
        (true, false) => needs("proxyUsername", "proxyPassword"),
        (false, true) => needs("proxyPassword", "proxyUsername"),
        _ => Ok(()),
    }
}

/// Read and Write Concern specification, "Inconsistent WriteConcern"; Server Selection
/// specification, "readPreference" (mode primary takes neither tags nor staleness).
fn concerns(parsed: &ConnectionString) -> Result<(), UriError> {
    let options = &parsed.options;
    if let Some(Err(UnacknowledgedJournal)) = options.write_concern.as_ref().map(|c| c.validate()) {
        return conflict("w=0", "journal=true", "raise w or drop journal");
    }
    match &options.read_preference {
        Some(preference) if !preference.is_valid() => conflict(
            "readPreference=primary",
            "readPreferenceTags or maxStalenessSeconds",
            "choose another mode, such as secondaryPreferred, or remove them",
        ),
        _ => Ok(()),
    }
}

/// CMAP specification, "Connection Pool Options"; a `maxPoolSize` of 0 is no limit.
fn pool(parsed: &ConnectionString) -> Result<(), UriError> {
    let pool = &parsed.options.pool;
    match (pool.min_size, pool.max_size) {
        (Some(min), Some(max)) if max > 0 && min > max => conflict(
            "minPoolSize",
            "maxPoolSize",
            "minPoolSize must not be above maxPoolSize",
        ),
        _ => Ok(()),
    }
}
