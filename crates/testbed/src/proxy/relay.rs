//! One connection through the proxy.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Cut, Direction, Faults, Shared};

/// How many bytes are read at once.
const CHUNK: usize = 16 * 1024;

/// How many chunks may be held back in a direction before the sender is no longer read.
const HELD_CHUNKS: usize = 64;

/// A chunk and the time from which it may be delivered.
type Delayed = (Instant, Vec<u8>);

/// Why a direction ended early.
enum Broken {
    /// One side failed, so the other one is to fail too.
    Failed,
    /// The allowance of bytes was used up.
    UsedUp,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Failed
    }
}

/// Carries bytes between `client` and `target` until both sides have closed or there is another
/// cut than the one numbered `first_cut`. A target that refuses the connection has the client's one reset.
pub(super) async fn run(mut client: TcpStream, target: &str, shared: &Shared, first_cut: u64) {
    let mut faults = shared.faults.subscribe();
    let cut = async {
        match faults.wait_for(|faults| faults.cut.0 != first_cut).await {
            Ok(faults) => faults.cut.1,
            Err(_) => None,
        }
    };
    tokio::pin!(cut);
    let mut server = tokio::select! {
        connected = TcpStream::connect(target) => match connected {
            Ok(server) => server,
            Err(_) => return reset(&client),
        },
        how = &mut cut => {
            if how == Some(Cut::Reset) {
                reset(&client);
            }
            return;
        }
    };
    // Small messages must not wait for one another.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let how = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let to_server = carry(from_client, to_server, Direction::ToServer, shared);
        let to_client = carry(from_server, to_client, Direction::ToClient, shared);
        tokio::select! {
            ended = async { tokio::try_join!(to_server, to_client) } => match ended {
                Err(Broken::Failed) => Some(Cut::Reset),
                Ok(_) | Err(Broken::UsedUp) => Some(Cut::Close),
            },
            how = cut => how,
        }
    };
    if how == Some(Cut::Reset) {
        reset(&client);
        reset(&server);
    }
}

/// Has the connection reset, rather than closed, when it is dropped.
fn reset(stream: &TcpStream) {
    // It fails only when the connection is gone, which is as good.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

/// Carries one direction to its end, which is passed on.
async fn carry(
    mut from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    direction: Direction,
    shared: &Shared,
) -> Result<(), Broken> {
    let (sender, held) = mpsc::channel(HELD_CHUNKS);
    let read = async move {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = from.read(&mut chunk).await?;
            if count == 0 {
                return Ok(());
            }
            let due = Instant::now() + shared.faults.borrow().line(direction).latency;
            if sender.send((due, chunk[..count].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::try_join!(read, deliver(held, to, direction, shared)).map(|_| ())
}

async fn deliver(
    mut held: mpsc::Receiver<Delayed>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    shared: &Shared,
) -> Result<(), Broken> {
    let mut faults = shared.faults.subscribe();
    while let Some((due, chunk)) = held.recv().await {
        tokio::time::sleep_until(due).await;
        wait_while_stalled(&mut faults, direction).await;
        let (allowed, used_up) = take_allowance(shared, direction, chunk.len());
        to.write_all(&chunk[..allowed]).await?;
        shared.count(|counts| {
            let count = u64::try_from(allowed).unwrap_or(u64::MAX);
            match direction {
                Direction::ToServer => counts.to_server += count,
                Direction::ToClient => counts.to_client += count,
            }
        });
        if used_up {
            return Err(Broken::UsedUp);
        }
    }
    wait_while_stalled(&mut faults, direction).await;
    Ok(to.shutdown().await?)
}

async fn wait_while_stalled(faults: &mut watch::Receiver<Faults>, direction: Direction) {
    // The sender outlives the connections, which end with the proxy's thread.
    let _ = faults
        .wait_for(|faults| !faults.line(direction).stalled)
        .await;
}

/// Takes up to `wanted` bytes from the allowance, and returns how many and whether they were the
/// last, in which case there is no limit for others from then on.
fn take_allowance(shared: &Shared, direction: Direction, wanted: usize) -> (usize, bool) {
    let allowance = shared.allowance(direction);
    let left = allowance.load(Ordering::SeqCst);
    let wide = u64::try_from(wanted).unwrap_or(u64::MAX);
    if left == u64::MAX || left > wide {
        if left != u64::MAX {
            allowance.fetch_sub(wide, Ordering::SeqCst);
        }
        return (wanted, false);
    }
    allowance.store(u64::MAX, Ordering::SeqCst);
    (usize::try_from(left).unwrap_or(wanted), true)
}
