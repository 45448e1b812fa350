//! Any text may be parsed, and what `Display` writes means what was read.

use mongo_uri::{ConnectionString, ServerAddress};
use proptest::prelude::*;

/// A word that needs encoding here and there.
fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9]{1,8}", "[ -~]{1,8}", "\\PC{1,8}"]
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_.-]{1,12}",
        "[a-z]{1,6}:[1-9][0-9]{0,3}",
        Just("bücher.example".to_owned()),
        "\\[[0-9A-F]{1,4}::[0-9a-f]{1,4}\\]:[1-9]",
        "\\[fe80::1%25[a-zA-Z0-9]{1,5}\\]",
        word().prop_map(|name| encode(&format!("/tmp/{}.sock", name.replace('\0', "")))),
    ]
}

/// One option. A secret is written as it is shown, so that it reads the same again.
fn option() -> impl Strategy<Value = String> {
    let number = [
        "connectTimeoutMS",
        "serverSelectionTimeoutMS",
        "socketTimeoutMS",
        "timeoutMS",
        "wTimeoutMS",
        "heartbeatFrequencyMS",
        "localThresholdMS",
        "maxPoolSize",
        "minPoolSize",
        "maxConnecting",
        "maxIdleTimeMS",
        "waitQueueTimeoutMS",
        "maxAdaptiveRetries",
        "zlibCompressionLevel",
        "w",
        "maxStalenessSeconds",
        "wtimeout",
        "proxyPort",
        "srvMaxHosts",
    ];
    let flag = [
        "directConnection",
        "loadBalanced",
        "journal",
        "retryReads",
        "retryWrites",
        "tls",
        "ssl",
        "tlsInsecure",
        "tlsAllowInvalidHostnames",
        "enableOverloadRetargeting",
    ];
    let text = [
        "appName",
        "replicaSet",
        "authSource",
        "readConcernLevel",
        "w",
        "tlsCAFile",
        "proxyHost",
        "tlsCertificateKeyFile",
        "gssapiServiceName",
        "unknown",
        "readPreferenceTags",
        "compressors",
    ];
    let plain = [
        "readPreference=secondary",
        "readPreference=nearest",
        "readPreferenceTags=dc:ny,rack:1",
        "readPreferenceTags=",
        "authMechanism=PLAIN",
        "authMechanism=GSSAPI",
        "compressors=zstd,lz4",
        "authMechanism=MONGODB-X509",
        "authMechanism=MONGODB-AWS",
        "authMechanism=MONGODB-OIDC",
        "serverMonitoringMode=poll",
        "authMechanismProperties=SERVICE_NAME:a b,CANONICALIZE_HOST_NAME:forward",
        "authMechanismProperties=ENVIRONMENT:azure,TOKEN_RESOURCE:mongodb://a",
        "srvServiceName=x",
        "proxyUsername=u&proxyPassword=***",
        "tlsCertificateKeyFilePassword=***",
        "srvAllowedHostsSuffix=.A.example.",
    ];
    prop_oneof![
        (prop::sample::select(number.to_vec()), -2i64..100_000)
            .prop_map(|(n, v)| format!("{n}={v}")),
        (prop::sample::select(flag.to_vec()), any::<bool>()).prop_map(|(n, v)| format!("{n}={v}")),
        (prop::sample::select(text.to_vec()), word())
            .prop_map(|(n, v)| format!("{n}={}", encode(&v))),
        prop::sample::select(plain.to_vec()).prop_map(str::to_owned),
    ]
}

/// A text that is a connection string more often than not.
fn uri() -> impl Strategy<Value = String> {
    let user = prop_oneof![
        Just(String::new()),
        word().prop_map(|user| format!("{}@", encode(&user))),
        word().prop_map(|user| format!("{}:***@", encode(&user))),
    ];
    let target = prop_oneof![
        4 => prop::collection::vec(host(), 1..4).prop_map(|hosts| ("mongodb://", hosts.join(","))),
        1 => "[a-z]{1,5}(\\.[A-Za-z]{1,5}){0,3}\\.?".prop_map(|host| ("mongodb+srv://", host)),
    ];
    let database = prop_oneof![Just(String::new()), word().prop_map(|name| encode(&name))];
    let options = prop::collection::vec(option(), 0..6);
    (user, target, database, options).prop_map(|(user, (scheme, hosts), database, options)| {
        format!("{scheme}{user}{hosts}/{database}?{}", options.join("&"))
    })
}

/// Pieces from which broken connection strings are made.
fn rubble() -> impl Strategy<Value = String> {
    let pieces = [
        "mongodb://",
        "mongodb+srv://",
        "a",
        "@",
        ":",
        "/",
        "?",
        "&",
        "=",
        ",",
        "%",
        "%2F",
        ".sock",
        "[",
        "]",
        "::1",
        "27017",
        "authSource",
        "w",
        "tls",
        "true",
        "-1",
        "é",
        "\0",
        " ",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..16).prop_map(|p| p.concat())
}

proptest! {
    #[test]
    fn parsing_never_panics(text in prop_oneof![any::<String>(), rubble(), uri()]) {
        let _ = ConnectionString::parse(&text);
        let _ = ConnectionString::parse(&format!("mongodb://{text}"));
        let _ = text.parse::<ServerAddress>();
    }

    #[test]
    fn an_error_points_into_the_text(text in rubble()) {
        if let Err(mongo_uri::UriError::Malformed { position, .. }) = ConnectionString::parse(&text) {
            prop_assert!(position <= text.len() && text.is_char_boundary(position));
        }
    }

    #[test]
    fn what_is_written_reads_the_same(text in uri()) {
        let Ok(first) = ConnectionString::parse(&text) else {
            return Ok(());
        };
        let written = first.to_string();
        let mut second = ConnectionString::parse(&written).map_err(|error| {
            TestCaseError::fail(format!("{written}: {error}"))
        })?;
        prop_assert_eq!(second.to_string(), written);
        // What was ignored is not written, so nothing is left to warn of but the credential.
        second.warnings.clone_from(&first.warnings);
        prop_assert_eq!(first, second);
    }

    #[test]
    fn an_address_reads_as_it_is_written(text in prop_oneof![host(), "[a-zA-Z.:\\[\\]/0-9]{0,12}"]) {
        if let Ok(address) = text.parse::<ServerAddress>() {
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}

#[test]
fn most_generated_strings_are_valid() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = uri();
    let mut valid = 0;
    for _ in 0..1_000 {
        let text = strategy.new_tree(&mut runner).expect("a tree").current();
        valid += usize::from(ConnectionString::parse(&text).is_ok());
    }
    assert!(
        valid > 250,
        "only {valid} of 1000 generated strings say anything about round trips"
    );
}
