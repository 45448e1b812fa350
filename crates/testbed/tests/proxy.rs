//! Each fault of the proxy, seen from a client and an echoing server.

#![allow(clippy::unwrap_used, reason = "a test and its helpers")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use testbed::connection::read_some;
use testbed::proxy::{Cut, Direction, Proxy};

/// Long enough for anything that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough to notice what is not to happen.
const SILENCE: Duration = Duration::from_millis(100);

/// Starts a server that sends back what it gets, for as long as the test runs.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}

fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let read = read_some(stream, &mut [0; 1]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn bytes_and_connections_are_counted() {
    let proxy = Proxy::start(&echo()).unwrap();
    let (mut first, mut second) = (connect(&proxy), connect(&proxy));
    echoes(&mut first);
    echoes(&mut second);
    drop(first);
    assert!(proxy.wait_until(PATIENCE, |counts| counts.open == 1));
    let counts = proxy.counts();
    assert_eq!(
        (counts.accepted, counts.to_server, counts.to_client),
        (2, 8, 8)
    );
}

#[test]
fn latency_delays_but_does_not_add_up() {
    let proxy = Proxy::start(&echo()).unwrap();
    let mut stream = connect(&proxy);
    echoes(&mut stream);
    proxy.set_latency(Direction::ToServer, Duration::from_millis(60));
    proxy.set_latency(Direction::ToClient, Duration::from_millis(60));
    let begun = Instant::now();
    echoes(&mut stream);
    let one = begun.elapsed();
    assert!(one >= Duration::from_millis(120), "{one:?}");
    // Many on their way at once are late by as much as one. The pauses keep them apart.
    stream.set_nodelay(true).unwrap();
    let begun = Instant::now();
    for _ in 0..50 {
        stream.write_all(b"ping").unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    stream.read_exact(&mut [0; 200]).unwrap();
    let all = begun.elapsed();
    assert!(all < Duration::from_millis(50 * 60), "{all:?}");
    proxy.heal().unwrap();
    echoes(&mut stream);
}

#[test]
fn a_stall_holds_bytes_back_until_healed() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let proxy = Proxy::start(&echo()).unwrap();
        let mut stream = connect(&proxy);
        echoes(&mut stream);
        proxy.stall(direction);
        stream.write_all(b"late").unwrap();
        let passed = if direction == Direction::ToServer {
            4
        } else {
            8
        };
        // What may pass has passed before the silence is looked for.
        assert!(proxy.wait_until(PATIENCE, |counts| counts.to_server == passed));
        assert!(is_silent(&mut stream), "{direction:?}");
        assert_eq!(proxy.counts().to_server, passed, "{direction:?}");
        proxy.heal().unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"late");
    }
}

#[test]
fn a_partition_accepts_connections_that_stay_silent() {
    let proxy = Proxy::start(&echo()).unwrap();
    proxy.partition();
    let mut stream = connect(&proxy);
    stream.write_all(b"ping").unwrap();
    assert!(is_silent(&mut stream));
    assert_eq!(proxy.counts().to_server, 0);
}

#[test]
fn a_cut_ends_open_connections_and_spares_new_ones() {
    let proxy = Proxy::start(&echo()).unwrap();
    let mut closed = connect(&proxy);
    echoes(&mut closed);
    proxy.cut(Cut::Close);
    assert_eq!(read_some(&mut closed, &mut [0; 1]).unwrap(), 0);
    let mut reset = connect(&proxy);
    echoes(&mut reset);
    proxy.cut(Cut::Reset);
    let error = read_some(&mut reset, &mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    echoes(&mut connect(&proxy));
}

#[test]
fn a_cut_ends_stalled_connections_too() {
    let proxy = Proxy::start(&echo()).unwrap();
    let mut stream = connect(&proxy);
    proxy.partition();
    stream.write_all(b"ping").unwrap();
    assert!(proxy.wait_until(PATIENCE, |counts| counts.open == 1));
    proxy.cut(Cut::Reset);
    let error = read_some(&mut stream, &mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_connection_ends_after_a_number_of_bytes() {
    let proxy = Proxy::start(&echo()).unwrap();
    let mut stream = connect(&proxy);
    proxy.cut_after(Direction::ToClient, 6);
    echoes(&mut stream);
    stream.write_all(b"pong").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"po");
    echoes(&mut connect(&proxy));
}

#[test]
fn new_connections_are_refused_and_open_ones_go_on() {
    let proxy = Proxy::start(&echo()).unwrap();
    let mut open = connect(&proxy);
    echoes(&mut open);
    proxy.refuse().unwrap();
    let error = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    echoes(&mut open);
    proxy.heal().unwrap();
    echoes(&mut connect(&proxy));
}

#[test]
fn a_server_that_is_down_resets_the_client() {
    let nowhere = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let proxy = Proxy::start(&nowhere).unwrap();
    let mut stream = connect(&proxy);
    assert_eq!(
        read_some(&mut stream, &mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}
