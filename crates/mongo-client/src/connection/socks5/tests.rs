use super::*;

fn proxy(login: Option<(&str, &str)>) -> Proxy {
    Proxy::new(&ProxyOptions {
        host: "Proxy.Example".to_owned(),
        username: login.map(|(name, _)| name.to_owned()),
        password: login.map(|(_, password)| Secret::new(password)),
        ..ProxyOptions::default()
    })
}

/// Holds a conversation: what the client must send, and what it hears then.
async fn converse(
    proxy: &Proxy,
    (host, port): (&str, u16),
    script: &[(&[u8], &[u8])],
) -> Result<()> {
    let mut builder = Conversation::default();
    for (sent, heard) in script {
        builder.sent.extend_from_slice(sent);
        builder.heard.extend_from_slice(heard);
    }
    let (mut client, mut server) = tokio::io::duplex(4096);
    let Conversation { sent, heard } = builder;
    server.write_all(&heard).await.unwrap();
    let result = proxy.open_way(&mut client, host, port).await;
    client.shutdown().await.unwrap();
    let mut seen = Vec::new();
    server.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, sent);
    result
}

#[derive(Default)]
struct Conversation {
    sent: Vec<u8>,
    heard: Vec<u8>,
}

/// Where the proxy says that it connects from.
const FROM_V4: [u8; 10] = [5, 0, 0, 1, 127, 0, 0, 1, 0x30, 0x39];

#[tokio::test]
async fn a_name_goes_to_the_proxy_as_it_is() {
    let request = b"\x05\x01\x00\x03\x0adb.example\x69\x89";
    let script: [(&[u8], &[u8]); 2] = [(&[5, 1, 0], &[5, 0]), (request, &FROM_V4)];
    converse(&proxy(None), ("db.example", 27017), &script)
        .await
        .unwrap();
}

#[tokio::test]
async fn addresses_go_as_addresses_and_any_form_of_reply_is_read() {
    let v4: &[u8] = &[5, 1, 0, 1, 10, 0, 0, 7, 0, 80];
    let mut v6 = vec![5, 1, 0, 4];
    v6.extend([0; 15]);
    v6.extend([1, 0, 80]);
    let mut from_v6 = vec![5, 0, 0, 4];
    from_v6.extend([0; 18]);
    let from_name: &[u8] = b"\x05\x00\x00\x03\x02ab\x00\x50";
    for (host, request, reply) in [
        ("10.0.0.7", v4, from_name),
        ("::1", v6.as_slice(), from_v6.as_slice()),
    ] {
        let script: [(&[u8], &[u8]); 2] = [(&[5, 1, 0], &[5, 0]), (request, reply)];
        converse(&proxy(None), (host, 80), &script).await.unwrap();
    }
}

#[tokio::test]
async fn a_password_is_offered_beside_nothing_and_sent_only_when_wanted() {
    let proxy = proxy(Some(("me", "secret")));
    let offer: &[u8] = &[5, 2, 0, 2];
    let request: &[u8] = b"\x05\x01\x00\x03\x01a\x00\x50";
    let wanted: [(&[u8], &[u8]); 3] = [
        (offer, &[5, 2]),
        (b"\x01\x02me\x06secret", &[1, 0]),
        (request, &FROM_V4),
    ];
    converse(&proxy, ("a", 80), &wanted).await.unwrap();
    let unwanted: [(&[u8], &[u8]); 2] = [(offer, &[5, 0]), (request, &FROM_V4)];
    converse(&proxy, ("a", 80), &unwanted).await.unwrap();
}

#[tokio::test]
async fn each_refusal_has_its_own_error() {
    let anonymous: &[u8] = &[5, 1, 0];
    let with_password: &[u8] = &[5, 2, 0, 2];
    let login: &[u8] = b"\x01\x02me\x02no";
    let request: &[u8] = b"\x05\x01\x00\x03\x01a\x00\x50";
    let me = Some(("me", "no"));
    for (login_data, script, expected) in [
        (
            None,
            vec![(anonymous, &[5_u8, 0xff][..])],
            "takes no authentication",
        ),
        (
            me,
            vec![(with_password, &[5, 2][..]), (login, &[1, 1][..])],
            "refused proxyUsername",
        ),
        (None, vec![(anonymous, &b"HT"[..])], "no SOCKS5 proxy"),
        (None, vec![(anonymous, &[5, 2][..])], "was not offered"),
        (
            None,
            vec![(anonymous, &[5, 0][..]), (request, &[5, 5, 0, 1][..])],
            "the connection was refused",
        ),
        (
            None,
            vec![(anonymous, &[5, 0][..]), (request, &[5, 99, 0, 1][..])],
            "general failure (code 99)",
        ),
        (
            None,
            vec![(anonymous, &[5, 0][..]), (request, &[5, 0, 0, 9][..])],
            "unknown kind",
        ),
    ] {
        let error = converse(&proxy(login_data), ("a", 80), &script)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn what_socks5_cannot_say_is_refused_before_it_is_sent() {
    let long = "n".repeat(256);
    let script: [(&[u8], &[u8]); 1] = [(&[5, 1, 0], &[5, 0])];
    let error = converse(&proxy(None), (&long, 80), &script).await;
    assert!(
        matches!(error, Err(ProxyFailure::Unsayable { .. })),
        "{error:?}"
    );
    let script: [(&[u8], &[u8]); 1] = [(&[5, 2, 0, 2], &[5, 2])];
    let error = converse(&proxy(Some((&long, "p"))), ("a", 80), &script).await;
    assert!(
        matches!(error, Err(ProxyFailure::Unsayable { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_proxy_that_hangs_up_breaks_the_way() {
    let (mut client, server) = tokio::io::duplex(64);
    drop(server);
    let error = proxy(None).open_way(&mut client, "a", 80).await;
    assert!(matches!(error, Err(ProxyFailure::Broken(_))), "{error:?}");
}

#[test]
fn debug_shows_no_password() {
    let shown = format!("{:?}", proxy(Some(("me", "hunter2"))));
    assert_eq!(shown, "Proxy(proxy.example:1080)");
}
