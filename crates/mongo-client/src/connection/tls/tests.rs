use super::*;

#[test]
fn names_and_addresses_can_be_certified_and_a_socket_is_on_localhost() {
    let name = |address: ServerAddress| server_name(&address).map(|name| name.to_str().to_string());
    for (host, expected) in [
        ("db.example", "db.example"),
        ("db.example.", "db.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
    ] {
        let found = name(ServerAddress::tcp(host, 27017));
        assert_eq!(found.as_deref(), Some(expected), "{host}");
    }
    assert_eq!(name(ServerAddress::tcp("no name", 1)), None);
    let socket = name(ServerAddress::unix("/tmp/mongodb.sock"));
    assert_eq!(socket.as_deref(), Some("localhost"));
}

#[test]
fn no_option_asks_for_tls_by_itself_but_any_of_its_own_does() {
    let built = |uri: &str| Tls::new(&ClientOptions::parse(uri).unwrap());
    assert!(built("mongodb://a/").unwrap().is_none());
    assert!(built("mongodb://a/?tls=false").unwrap().is_none());
    assert!(built("mongodb://a/?tlsInsecure=true").unwrap().is_some());
    let unreadable = built("mongodb://a/?tlsCAFile=%2Fnowhere.pem").unwrap_err();
    assert!(matches!(unreadable, Error::TlsFile { .. }), "{unreadable}");
}

#[test]
fn a_machine_without_a_store_of_authorities_is_told_what_to_give() {
    match system_authorities() {
        Ok(roots) => assert!(!roots.is_empty()),
        Err(error) => assert!(error.to_string().ends_with("in tlsCAFile"), "{error}"),
    }
    let error = no_authorities(&"it is empty");
    assert!(error.to_string().ends_with("in tlsCAFile"), "{error}");
}

#[test]
fn what_the_library_says_of_a_certificate_gets_its_own_failure() {
    for (said, expected) in [
        (CertificateError::UnknownIssuer, TlsFailure::UnknownIssuer),
        (CertificateError::Expired, TlsFailure::Expired),
        (CertificateError::NotValidYet, TlsFailure::NotYetValid),
        (CertificateError::Revoked, TlsFailure::Revoked),
        (
            CertificateError::NotValidForName,
            TlsFailure::WrongHostName { names: Vec::new() },
        ),
        (
            CertificateError::BadSignature,
            TlsFailure::BadCertificate {
                reason: CertificateError::BadSignature.to_string(),
            },
        ),
    ] {
        assert_eq!(certificate_failure(&said), expected);
    }
}

#[test]
fn an_alert_about_certificates_means_the_clients_only_if_one_was_asked_for() {
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
    let config = config_from(&TlsOptions {
        insecure: Some(true),
        ..TlsOptions::default()
    });
    let witness = Witness::new(&config.unwrap());
    let unasked = failure(&alert, &witness);
    assert!(matches!(unasked, TlsFailure::Protocol { .. }), "{unasked}");
    let given = rustls::client::ResolvesClientCert::resolve(&witness, &[], &[]);
    assert!(given.is_none());
    assert_eq!(
        failure(&alert, &witness),
        TlsFailure::ClientCertificateMissing
    );
}

#[test]
fn a_hang_up_in_the_handshake_comes_with_a_guess_and_other_errors_without() {
    let guess = |kind: io::ErrorKind| suspected(kind.into()).to_string();
    assert!(guess(io::ErrorKind::UnexpectedEof).contains("TLS on?"));
    assert!(guess(io::ErrorKind::ConnectionReset).contains("TLS on?"));
    assert!(!guess(io::ErrorKind::BrokenPipe).contains("TLS on?"));
}

#[test]
fn names_are_told_as_they_stand_in_an_address() {
    for (written, expected) in [
        ("DnsName(\"db.example\")", "db.example"),
        ("IpAddress(::1)", "::1"),
        ("DirectoryName", "DirectoryName"),
    ] {
        assert_eq!(bare_name(written), expected);
    }
}
