use std::time::Duration;

use super::{Compressor, UriOptions};
use crate::{
    Acknowledgment, ConnectionString, OptionProblem, ReadPreferenceMode, UriError, WarningKind,
    WriteConcern,
};

fn parse(options: &str) -> Result<ConnectionString, UriError> {
    ConnectionString::parse(&format!("mongodb://a/?{options}"))
}

/// The options, which must be free of warnings.
fn clean(options: &str) -> UriOptions {
    let parsed = parse(options).expect(options);
    assert_eq!(parsed.warnings, [], "{options}");
    parsed.options
}

/// The one warning about options.
fn warning(options: &str) -> (UriOptions, String, WarningKind) {
    let parsed = parse(options).expect(options);
    assert_eq!(parsed.warnings.len(), 1, "{options}: {:?}", parsed.warnings);
    let warning = parsed.warnings.into_iter().next().expect("one warning");
    (parsed.options, warning.option, warning.kind)
}

#[test]
fn values_have_their_types() {
    let options = clean(
        "CONNECTTIMEOUTMS=0&maxPoolSize=0&zlibCompressionLevel=-1&compressors=zstd,snappy,zstd\
         &maxStalenessSeconds=-1&wTimeoutMS=9223372036854775807&w=3",
    );
    assert_eq!(options.connect_timeout, Some(Duration::ZERO));
    assert_eq!(options.pool.max_size, Some(0));
    assert_eq!(options.zlib_compression_level, Some(-1));
    assert_eq!(
        options.compressors,
        Some(vec![Compressor::Zstd, Compressor::Snappy])
    );
    let preference = options.read_preference.expect("a read preference");
    assert_eq!(preference.mode, ReadPreferenceMode::Primary);
    assert_eq!(preference.max_staleness, None);
    let longest = Duration::from_millis(9_223_372_036_854_775_807);
    assert_eq!(
        options.write_concern,
        Some(WriteConcern {
            w: Some(Acknowledgment::Nodes(3)),
            journal: None,
            w_timeout: Some(longest)
        })
    );
}

#[test]
fn values_out_of_range_are_ignored_with_a_warning_and_leave_no_trace() {
    let table = [
        "connectTimeoutMS=-1",
        "connectTimeoutMS=+1",
        "connectTimeoutMS=1.5",
        "connectTimeoutMS=2147483648",
        "connectTimeoutMS=-",
        "heartbeatFrequencyMS=499",
        "maxConnecting=0",
        "waitQueueTimeoutMS=0",
        "wTimeoutMS=9223372036854775808",
        "zlibCompressionLevel=10",
        "maxStalenessSeconds=-2",
        "readPreference=Primary",
        "readPreferenceTags=dc",
        "readPreferenceTags=:ny",
        "serverMonitoringMode=push",
        "journal=True",
        "retryReads=maybe",
        "proxyPort=0",
        "proxyPort=65536",
        "appName=0123456789012345678901234567890123456789012345678901234567890123\
         01234567890123456789012345678901234567890123456789012345678901234",
    ];
    for text in table {
        let (options, _, kind) = warning(text);
        assert_eq!(options, UriOptions::default(), "{text}");
        assert!(
            matches!(kind, WarningKind::InvalidValue { .. }),
            "{text}: {kind:?}"
        );
    }
}

#[test]
fn empty_values_are_ignored_with_a_warning() {
    for name in [
        "appName",
        "w",
        "journal",
        "maxPoolSize",
        "compressors",
        "tlsCAFile",
    ] {
        let (options, option, kind) = warning(&format!("{name}="));
        assert_eq!(
            (options, kind),
            (UriOptions::default(), WarningKind::EmptyValue)
        );
        assert_eq!(option, name);
    }
    let empty = UriError::Option {
        option: "authSource",
        problem: OptionProblem::Empty,
    };
    assert_eq!(parse("authSource="), Err(empty));
}

#[test]
fn old_truth_values_are_applied_with_a_warning() {
    let table = [
        ("1", true),
        ("yes", true),
        ("y", true),
        ("t", true),
        ("0", false),
        ("-1", false),
    ];
    for (word, meaning) in table {
        let (options, _, kind) = warning(&format!("retryReads={word}"));
        assert_eq!(options.retry_reads, Some(meaning));
        assert_eq!(kind, WarningKind::DeprecatedBoolean { meaning });
    }
}

#[test]
fn unknown_names_are_ignored_with_a_warning() {
    let (options, option, kind) = warning("connectMS=1");
    assert_eq!(
        (options, option.as_str()),
        (UriOptions::default(), "connectMS")
    );
    assert_eq!(kind, WarningKind::UnknownOption);

    let (options, _, kind) = warning("compressors=lz4,zlib");
    assert_eq!(options.compressors, Some(vec![Compressor::Zlib]));
    assert_eq!(
        kind,
        WarningKind::UnknownCompressors {
            names: vec!["lz4".into()]
        }
    );
}

#[test]
fn the_last_of_repeated_values_counts() {
    let (options, option, kind) = warning("replicaSet=a&replicaset=b");
    assert_eq!(options.replica_set.as_deref(), Some("b"));
    assert_eq!(
        (option.as_str(), kind),
        ("replicaSet", WarningKind::Repeated)
    );
}

#[test]
fn a_new_name_wins_over_its_old_one_wherever_it_stands() {
    for text in ["wtimeout=5&wTimeoutMS=10", "wTimeoutMS=10&wtimeout=5"] {
        let (options, option, kind) = warning(text);
        let timeout = options.write_concern.expect("a write concern").w_timeout;
        assert_eq!(timeout, Some(Duration::from_millis(10)));
        assert_eq!(option, "wtimeout");
        assert_eq!(
            kind,
            WarningKind::DeprecatedNameIgnored {
                replacement: "wTimeoutMS"
            }
        );
    }
    let (options, _, kind) = warning("wtimeout=5");
    assert!(options.write_concern.is_some());
    assert_eq!(
        kind,
        WarningKind::DeprecatedName {
            replacement: "wTimeoutMS"
        }
    );
}

#[test]
fn what_must_not_be_ignored_is_an_error() {
    let invalid_w = "a whole number of at least 0, majority, or the name of a mode";
    let suffix = "a domain of your own, such as .cluster.example.com";
    let table = [
        ("tls=true&ssl=false", "tls", OptionProblem::Contradictory),
        ("tls=true&tls=false", "tls", OptionProblem::Contradictory),
        (
            "proxyHost=a&proxyHost=a",
            "proxyHost",
            OptionProblem::Repeated,
        ),
        (
            "proxyPort=1",
            "proxyPort",
            OptionProblem::Needs { other: "proxyHost" },
        ),
        (
            "proxyPassword=p",
            "proxyPassword",
            OptionProblem::Needs { other: "proxyHost" },
        ),
        (
            "proxyHost=a&proxyUsername=u",
            "proxyUsername",
            OptionProblem::Needs {
                other: "proxyPassword",
            },
        ),
        ("srvMaxHosts=0", "srvMaxHosts", OptionProblem::SrvOnly),
        ("srvServiceName=a", "srvServiceName", OptionProblem::SrvOnly),
        (
            "srvAllowedHostsSuffix=a.b",
            "srvAllowedHostsSuffix",
            OptionProblem::SrvOnly,
        ),
        (
            "srvAllowedHostsSuffix=com",
            "srvAllowedHostsSuffix",
            OptionProblem::Invalid { expected: suffix },
        ),
        (
            "w=-1",
            "w",
            OptionProblem::Invalid {
                expected: invalid_w,
            },
        ),
    ];
    for (text, option, problem) in table {
        assert_eq!(
            parse(text),
            Err(UriError::Option { option, problem }),
            "{text}"
        );
    }
    clean("tls=true&ssl=true&tls=true");
}

#[test]
fn service_names_follow_their_syntax() {
    let table = [
        ("mongodb", true),
        ("my-service2", true),
        ("123", false),
        ("-a", false),
        ("a-", false),
        ("a--b", false),
        ("a_b", false),
        ("a.b", false),
    ];
    for (name, fits) in table {
        let text = format!("mongodb+srv://a/?srvServiceName={name}");
        let parsed = ConnectionString::parse(&text).expect("a valid URI");
        assert_eq!(parsed.options.srv.service_name.is_some(), fits, "{name}");
        assert_eq!(parsed.warnings.is_empty(), fits, "{name}");
    }
}

#[test]
fn any_tls_option_asks_for_tls() {
    for (text, required) in [
        ("", false),
        ("tls=false&tlsCAFile=a", false),
        ("tlsCAFile=a", true),
        ("tlsInsecure=true", true),
        ("tls=true", true),
    ] {
        assert_eq!(clean(text).tls.is_required(), required, "{text}");
    }
}
