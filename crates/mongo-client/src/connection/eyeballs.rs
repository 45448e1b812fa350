//! The race between the addresses of one name (RFC 8305, "Happy Eyeballs"): families take turns,
//! each attempt gets a head start before the next one, and the first connection wins.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;

/// The head start of an attempt before the next one ("Connection Attempt Delay").
pub(super) const HEAD_START: Duration = Duration::from_millis(250);

/// One address of each family in turn, beginning with the family that comes first.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut turn, mut other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    turn.reverse();
    other.reverse();
    let mut order = Vec::with_capacity(turn.len() + other.len());
    while let Some(address) = turn.pop().or_else(|| other.pop()) {
        order.push(address);
        if !other.is_empty() {
            std::mem::swap(&mut turn, &mut other);
        }
    }
    order
}

/// Connects to the first address that answers; a failure starts the next attempt at once.
///
/// Dropping the future gives up every attempt.
///
/// # Errors
/// When all have failed: the only failure, or one of the first one's kind that tells them all.
pub(super) async fn race<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut waiting = interleaved(addresses).into_iter().peekable();
    let mut attempts = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            let attempt = connect(address);
            attempts.spawn(async move { (address, attempt.await) });
        }
        tokio::select! {
            biased;
            ended = attempts.join_next() => match ended {
                Some(Ok((_, Ok(stream)))) => return Ok(stream),
                Some(Ok((address, Err(error)))) => failures.push((address, error)),
                // The runtime is going down, or `connect` panicked.
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Err(summary(failures)),
            },
            () = tokio::time::sleep(HEAD_START), if waiting.peek().is_some() => {}
        }
    }
}

fn summary(mut failures: Vec<(SocketAddr, io::Error)>) -> io::Error {
    if failures.len() == 1 {
        return failures.remove(0).1;
    }
    let kind = failures
        .first()
        .map_or(io::ErrorKind::NotFound, |(_, error)| error.kind());
    let told: Vec<String> = failures
        .iter()
        .map(|(address, error)| format!("{address}: {error}"))
        .collect();
    if told.is_empty() {
        return io::Error::new(kind, "the name has no address");
    }
    io::Error::new(kind, told.join("; "))
}

#[cfg(test)]
mod tests;
