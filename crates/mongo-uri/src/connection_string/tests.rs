use crate::{AddressError, ConnectionString, Problem, ServerAddress, UriError};

fn parse(text: &str) -> ConnectionString {
    ConnectionString::parse(text).expect(text)
}

#[test]
fn hosts_are_read_in_order() {
    let table: [(&str, &[ServerAddress]); 6] = [
        ("mongodb://a", &[ServerAddress::tcp("a", 27017)]),
        (
            "mongodb://A:1,b:2",
            &[ServerAddress::tcp("a", 1), ServerAddress::tcp("b", 2)],
        ),
        (
            "mongodb://[FE80::1%25Eth0]:3",
            &[ServerAddress::tcp("fe80::1%Eth0", 3)],
        ),
        (
            "mongodb://%2FRun%2Fm.sock,a",
            &[
                ServerAddress::unix("/Run/m.sock"),
                ServerAddress::tcp("a", 27017),
            ],
        ),
        (
            "mongodb://b%C3%BCcher.example",
            &[ServerAddress::tcp("bücher.example", 27017)],
        ),
        ("mongodb+srv://a.example", &[]),
    ];
    for (text, hosts) in table {
        assert_eq!(parse(text).hosts, hosts, "{text}");
    }
}

#[test]
fn errors_point_at_the_offending_byte() {
    use Problem::*;
    let table = [
        ("", 0, Scheme),
        ("mongodb:/a", 0, Scheme),
        ("mongodb://", 10, Address(AddressError::Empty)),
        ("mongodb://a,,b", 12, Address(AddressError::Empty)),
        ("mongodb:///tmp/a.sock", 10, Address(AddressError::Empty)),
        ("mongodb://a,b:x", 12, Address(AddressError::Port)),
        ("mongodb://a,::1", 12, Address(AddressError::BareColons)),
        ("mongodb://a,[::g]", 12, Address(AddressError::Ipv6)),
        ("mongodb://a,[::1]x", 12, Address(AddressError::Brackets)),
        ("mongodb://a b", 10, Address(AddressError::HostCharacter)),
        ("mongodb://a%3A1", 10, Address(AddressError::HostCharacter)),
        (
            "mongodb://%2Ftmp%2Fa",
            10,
            Address(AddressError::SocketSuffix),
        ),
        ("mongodb://a%2", 11, PercentEscape),
        ("mongodb://a%ff", 10, NotUtf8),
        ("mongodb://@a", 10, EmptyUsername),
        ("mongodb://:p@a", 10, EmptyUsername),
        ("mongodb://u@v@a", 11, UserInfoCharacter),
        ("mongodb://u:p:q@a", 13, UserInfoCharacter),
        ("mongodb://u:p^@a", 13, UserInfoCharacter),
        ("mongodb://u:p/q@a/db", 13, UserInfoCharacter),
        ("mongodb://u/v:p@a/db", 11, UserInfoCharacter),
        ("mongodb://u%zz@a", 11, PercentEscape),
        ("mongodb://a/d b", 12, DatabaseCharacter),
        ("mongodb://a/d%24", 12, DatabaseCharacter),
        ("mongodb://a/?w", 13, MissingEquals),
        ("mongodb://a/?w=1&=2", 17, EmptyName),
        ("mongodb://a?appName=%", 20, PercentEscape),
        ("mongodb+srv://a,b", 15, SrvHosts),
        ("mongodb+srv://a:1", 15, SrvPort),
        ("mongodb+srv://[::1]", 14, SrvName),
        ("mongodb+srv://%2Fa.sock", 14, SrvName),
        ("mongodb+srv://a..b", 14, SrvName),
    ];
    for (text, position, problem) in table {
        let expected = UriError::Malformed { position, problem };
        assert_eq!(ConnectionString::parse(text), Err(expected), "{text}");
    }
}

#[test]
fn parts_that_exclude_each_other_are_refused() {
    let table = [
        (
            "mongodb://a,b/?directConnection=true",
            "directConnection=true",
            "several hosts",
        ),
        (
            "mongodb+srv://a/?directConnection=true",
            "directConnection=true",
            "mongodb+srv",
        ),
        (
            "mongodb://a,b/?loadBalanced=true",
            "loadBalanced=true",
            "several hosts",
        ),
        (
            "mongodb://a/?loadBalanced=true&replicaSet=s",
            "loadBalanced=true",
            "replicaSet",
        ),
        (
            "mongodb+srv://a/?srvMaxHosts=1&replicaSet=s",
            "srvMaxHosts",
            "replicaSet",
        ),
        (
            "mongodb+srv://a/?srvMaxHosts=1&loadBalanced=true",
            "srvMaxHosts",
            "loadBalanced=true",
        ),
        ("mongodb://a/?w=0&journal=true", "w=0", "journal=true"),
        (
            "mongodb://a/?minPoolSize=6&maxPoolSize=5",
            "minPoolSize",
            "maxPoolSize",
        ),
        (
            "mongodb://a/?tlsInsecure=false&tlsAllowInvalidHostnames=false",
            "tlsInsecure",
            "tlsAllowInvalidHostnames",
        ),
        (
            "mongodb://a/?maxStalenessSeconds=120",
            "readPreference=primary",
            "readPreferenceTags or maxStalenessSeconds",
        ),
    ];
    for (text, one, other) in table {
        match ConnectionString::parse(text) {
            Err(UriError::Conflict { first, second, .. }) => {
                assert_eq!((first, second), (one, other), "{text}");
            }
            outcome => panic!("{text}: {outcome:?}"),
        }
    }
    parse("mongodb://a/?minPoolSize=6&maxPoolSize=0");
    parse("mongodb+srv://a/?srvMaxHosts=0&replicaSet=s");
}

#[test]
fn display_writes_canonical_names_and_leaves_out_what_was_ignored() {
    let table = [
        ("mongodb://A", "mongodb://a:27017/"),
        (
            "mongodb://a?SSL=1&foo=2&wtimeout=5",
            "mongodb://a:27017/?wTimeoutMS=5&tls=true",
        ),
        (
            "mongodb+srv://A.Example./db",
            "mongodb+srv://a.example/db?tls=true",
        ),
        (
            "mongodb+srv://a.example/?tls=false",
            "mongodb+srv://a.example/?tls=false",
        ),
        (
            "mongodb://[fe80::1%25Eth0]",
            "mongodb://[fe80::1%25Eth0]:27017/",
        ),
        ("mongodb://%2ftmp%2fa.sock/", "mongodb://%2Ftmp%2Fa.sock/"),
        (
            "mongodb://a/?readPreference=nearest&readPreferenceTags=dc:ny,rack:1&readPreferenceTags=",
            "mongodb://a:27017/?readPreference=nearest&readPreferenceTags=dc:ny,rack:1\
             &readPreferenceTags=",
        ),
        (
            "mongodb://%40l%3Ace%2F%3D:p@a/my%3Ddb?appname=a%26b",
            "mongodb://%40l%3Ace%2F%3D:***@a:27017/my%3Ddb?appName=a%26b",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(parse(text).to_string(), expected);
    }
}

#[test]
fn no_secret_is_ever_shown() {
    let text = "mongodb://user:hunter2@a/?proxyHost=p&proxyUsername=u&proxyPassword=hunter2\
                &tlsCertificateKeyFilePassword=hunter2&authMechanismProperties=NAME:hunter2,hunter2\
                &tlsCertificateKeyFilePassword=hunter2&misspelled=hunter2";
    let parsed = parse(text);
    assert!(!parsed.warnings.is_empty());
    let warnings: String = parsed.warnings.iter().map(ToString::to_string).collect();
    for shown in [parsed.to_string(), format!("{parsed:?}"), warnings] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    for broken in [
        "mongodb://u:hunter2",
        "mongodb://u:hunter2/x@a",
        "mongodb://u:hunter2 @a",
    ] {
        let error = ConnectionString::parse(broken).expect_err(broken);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn srv_turns_tls_on_unless_told_otherwise() {
    assert_eq!(parse("mongodb+srv://a").options.tls.enabled, Some(true));
    assert_eq!(
        parse("mongodb+srv://a/?tls=false").options.tls.enabled,
        Some(false)
    );
    assert_eq!(parse("mongodb://a").options.tls.enabled, None);
}
