//! Connection strings: parsing never panics, `Display` means the same, secrets stay inside.
//!
//! The input is a connection string, and after a zero byte the DNS answer to it: a line for each
//! SRV record (`target:port`), and after another zero byte a line for each TXT record.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mongo_uri::{ConnectionString, ServerAddress, SrvRecord, TxtRecord};

/// A password that is in no other part of an input.
const PASSWORD: &str = "hunter2hunter2";

/// Everything but the warnings, and secrets as `***`.
fn meaning(parsed: &ConnectionString) -> String {
    let mut copy = parsed.clone();
    copy.warnings.clear();
    if copy.srv_host.is_some() {
        copy.hosts.clear();
    }
    format!("{copy:#?}")
}

fn check(parsed: &ConnectionString) {
    let shown = parsed.to_string();
    let again: ConnectionString = match shown.parse() {
        Ok(again) => again,
        Err(error) => panic!("{shown} is refused: {error}"),
    };
    assert_eq!(meaning(&again), meaning(parsed), "{shown}");
    assert_eq!(again.to_string(), shown);
    for host in &parsed.hosts {
        assert_eq!(host.to_string().parse().as_ref(), Ok(host));
    }
    for warning in &parsed.warnings {
        assert!(!warning.to_string().is_empty());
    }
}

/// The same connection string with another password, if it has one.
fn with_password(text: &str) -> Option<String> {
    let start = text.find("://")? + 3;
    let end = text[start..]
        .find(['/', '?'])
        .map_or(text.len(), |at| start + at);
    let at = start + text[start..end].rfind('@')?;
    let colon = start + text[start..at].find(':')?;
    (!text.contains(PASSWORD)).then(|| format!("{}{PASSWORD}{}", &text[..=colon], &text[at..]))
}

fn check_secrecy(text: &str) {
    let Some(text) = with_password(text) else {
        return;
    };
    match ConnectionString::parse(&text) {
        Ok(parsed) => {
            let warnings: String = parsed.warnings.iter().map(ToString::to_string).collect();
            let all = format!("{parsed} {parsed:?} {warnings}");
            assert!(!all.contains(PASSWORD), "{all}");
            let password = parsed.credential.and_then(|credential| credential.password);
            assert!(password.is_none_or(|password| password.expose() == PASSWORD));
        }
        Err(error) => assert!(
            !format!("{error} {error:?}").contains(PASSWORD),
            "{error:?}"
        ),
    }
}

fn srv_record(line: &str) -> SrvRecord {
    let (target, port) = line.rsplit_once(':').unwrap_or((line, ""));
    SrvRecord {
        target: target.to_owned(),
        port: port.parse().unwrap_or(27017),
        ttl: Duration::from_secs(line.len().try_into().unwrap_or(0)),
    }
}

fn check_records(parsed: &ConnectionString, records: &str, texts: &str) {
    let records: Vec<_> = records.lines().map(srv_record).collect();
    let texts: Vec<_> = texts
        .lines()
        .map(|line| TxtRecord(vec![line.as_bytes().to_vec()]))
        .collect();
    let resolved = parsed.resolve(&records, &texts, 1);
    assert_eq!(resolved, parsed.resolve(&records, &texts, 1));
    let current: BTreeSet<ServerAddress> = match &resolved {
        Ok(resolved) => {
            assert!(parsed.srv_host.is_some() && !resolved.hosts.is_empty());
            check(resolved);
            resolved.hosts.iter().cloned().collect()
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            BTreeSet::new()
        }
    };
    let rescan = parsed.rescan(&records, &current, 2);
    let limit = parsed.options.srv.max_hosts.filter(|limit| *limit > 0);
    if let (Some(hosts), Some(limit)) = (&rescan.hosts, limit) {
        assert!(hosts.len() <= usize::try_from(limit).unwrap_or(usize::MAX));
    }
    assert!(rescan.rejected.len() <= records.len());
}

fuzz_target!(|text: &str| {
    let (uri, dns) = text.split_once('\0').unwrap_or((text, ""));
    if let Ok(address) = uri.parse::<ServerAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    check_secrecy(uri);
    match ConnectionString::parse(uri) {
        Ok(parsed) => {
            check(&parsed);
            let (records, texts) = dns.split_once('\0').unwrap_or((dns, ""));
            check_records(&parsed, records, texts);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
