use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::*;

/// What an address does in a test, and after how many milliseconds.
#[derive(Clone, Copy)]
enum Fate {
    Answers(u64),
    Fails(u64),
    IsSilent,
}
use Fate::{Answers, Fails, IsSilent};

fn v4(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 27017))
}

fn v6(last: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 27017))
}

/// The result, and when each attempt began and the race ended, in milliseconds of virtual time.
struct Outcome {
    result: io::Result<SocketAddr>,
    begun: Vec<(SocketAddr, u128)>,
    ended: u128,
}

async fn run(fates: &[(SocketAddr, Fate)]) -> Outcome {
    let start = Instant::now();
    let begun = Arc::new(Mutex::new(Vec::new()));
    let addresses = fates.iter().map(|(address, _)| *address).collect();
    let result = race(addresses, |address| {
        let fate = fates.iter().find(|(own, _)| *own == address).unwrap().1;
        let at = start.elapsed().as_millis();
        begun.lock().unwrap().push((address, at));
        async move {
            match fate {
                Answers(after) => {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    Ok(address)
                }
                Fails(after) => {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    Err(io::ErrorKind::ConnectionRefused.into())
                }
                IsSilent => std::future::pending().await,
            }
        }
    })
    .await;
    let begun = begun.lock().unwrap().clone();
    Outcome {
        result,
        begun,
        ended: start.elapsed().as_millis(),
    }
}

#[test]
fn families_take_turns_beginning_with_the_preferred_one() {
    for (given, expected) in [
        (vec![], vec![]),
        (vec![v4(1)], vec![v4(1)]),
        (vec![v4(1), v4(2)], vec![v4(1), v4(2)]),
        (
            vec![v6(1), v6(2), v4(1), v4(2)],
            vec![v6(1), v4(1), v6(2), v4(2)],
        ),
        (
            vec![v4(1), v6(1), v6(2), v6(3)],
            vec![v4(1), v6(1), v6(2), v6(3)],
        ),
        (
            vec![v6(1), v6(2), v6(3), v4(1)],
            vec![v6(1), v4(1), v6(2), v6(3)],
        ),
    ] {
        assert_eq!(interleaved(given.clone()), expected, "{given:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_address_that_answers_in_time_is_the_only_one_tried() {
    let outcome = run(&[(v6(1), Answers(249)), (v4(1), Answers(0))]).await;
    assert_eq!(outcome.result.unwrap(), v6(1));
    assert_eq!(outcome.begun, [(v6(1), 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_first_address_costs_one_head_start() {
    let outcome = run(&[(v6(1), IsSilent), (v6(2), IsSilent), (v4(1), Answers(10))]).await;
    assert_eq!(outcome.result.unwrap(), v4(1));
    assert_eq!(outcome.begun, [(v6(1), 0), (v4(1), 250)]);
    assert_eq!(outcome.ended, 260);
}

#[tokio::test(start_paused = true)]
async fn a_failure_starts_the_next_attempt_at_once() {
    let outcome = run(&[(v6(1), Fails(30)), (v4(1), Answers(10))]).await;
    assert_eq!(outcome.result.unwrap(), v4(1));
    assert_eq!(outcome.begun, [(v6(1), 0), (v4(1), 30)]);
    assert_eq!(outcome.ended, 40);
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_address_still_wins_when_it_answers_first() {
    let outcome = run(&[(v6(1), Answers(300)), (v4(1), Answers(100))]).await;
    assert_eq!(outcome.result.unwrap(), v6(1));
    assert_eq!(outcome.ended, 300);
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_every_address_is_named() {
    let outcome = run(&[(v6(1), Fails(400)), (v4(1), Fails(5))]).await;
    let error = outcome.result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let message = error.to_string();
    assert!(
        message.contains("[2001:db8::1]:27017") && message.contains("192.0.2.1:27017"),
        "{message}"
    );
    assert_eq!(outcome.ended, 400);
}

#[tokio::test(start_paused = true)]
async fn one_failure_is_told_as_it_is_and_no_address_has_its_own() {
    let outcome = run(&[(v4(1), Fails(0))]).await;
    let alone = outcome.result.unwrap_err();
    assert_eq!(alone.kind(), io::ErrorKind::ConnectionRefused);
    let none = run(&[]).await.result.unwrap_err();
    assert_eq!(none.to_string(), "the name has no address");
}

#[tokio::test]
async fn a_dead_first_address_does_not_keep_a_real_connection_from_being_made() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alive = listener.local_addr().unwrap();
    // Reserved for documentation (RFC 5737): unreachable at once, or silent.
    let connecting = race(vec![v4(1), alive], tokio::net::TcpStream::connect);
    let stream = tokio::time::timeout(Duration::from_secs(30), connecting);
    let stream = stream.await.expect("this hangs").unwrap();
    assert_eq!(stream.peer_addr().unwrap(), alive);
}
