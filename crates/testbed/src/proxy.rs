//! A TCP proxy in front of a server, which can do to its connections what a network does.
//!
//! Faults are switched while connections are open and while new ones come: latency, silence in
//! one direction or both, an end of all connections, an end after a number of bytes, refusal of
//! new ones.

mod relay;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc as blocking};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 128;

/// The way that bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// How a connection is ended, on both sides of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// With a FIN, as a peer that closes does; reads end.
    Close,
    /// With a RST, as a crashed host or a firewall does; reads fail.
    Reset,
}

/// What went through a proxy so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Bytes delivered to the server.
    pub to_server: u64,
    /// Bytes delivered to clients.
    pub to_client: u64,
}

/// A proxy on a free loopback port; its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// The faults that all connections obey.
#[derive(Debug, Clone, Default)]
struct Faults {
    to_server: Line,
    to_client: Line,
    /// The last cut and its number; a connection obeys those made while it is open.
    cut: (u64, Option<Cut>),
}

/// The faults of one direction.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    latency: Duration,
    stalled: bool,
}

impl Faults {
    fn line(&self, direction: Direction) -> &Line {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn line_mut(&mut self, direction: Direction) -> &mut Line {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

/// Changes of the listening socket, answered when they are done.
#[derive(Debug)]
enum Order {
    Refuse(blocking::Sender<Result<()>>),
    Accept(blocking::Sender<Result<()>>),
}

#[derive(Debug)]
struct Shared {
    faults: watch::Sender<Faults>,
    /// How many bytes may still go to the server, and to clients, before the connection that
    /// carries the last one ends; `u64::MAX` for no such limit.
    allowance: [AtomicU64; 2],
    counts: Mutex<Counts>,
    changed: Condvar,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts());
        self.changed.notify_all();
    }

    fn allowance(&self, direction: Direction) -> &AtomicU64 {
        &self.allowance[usize::from(direction == Direction::ToClient)]
    }
}

impl Proxy {
    /// Starts a proxy to `target`, `host:port`, which is connected to for each connection.
    ///
    /// # Errors
    ///
    /// When there is no free port or no thread can be started.
    pub fn start(target: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = runtime.block_on(async { listen((Ipv4Addr::LOCALHOST, 0).into()) })?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            faults: watch::Sender::new(Faults::default()),
            allowance: [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)],
            counts: Mutex::default(),
            changed: Condvar::new(),
        });
        let (orders, received) = mpsc::unbounded_channel();
        let acceptor = Acceptor {
            address,
            target: target.to_owned(),
            shared: Arc::clone(&shared),
        };
        let thread = thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || runtime.block_on(acceptor.run(listener, received)))?;
        Ok(Self {
            address,
            shared,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// The address to connect to, `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Delays what goes in a direction. What is under way keeps the latency it set out with.
    pub fn set_latency(&self, direction: Direction, latency: Duration) {
        self.shared
            .faults
            .send_modify(|faults| faults.line_mut(direction).latency = latency);
    }

    /// Holds back whatever goes in a direction, on connections open and new, until
    /// [`Proxy::heal`]: the connections stay open, and half-open if one side leaves.
    pub fn stall(&self, direction: Direction) {
        self.shared
            .faults
            .send_modify(|faults| faults.line_mut(direction).stalled = true);
    }

    /// Holds back whatever goes in either direction, as a network that drops every packet.
    pub fn partition(&self) {
        self.stall(Direction::ToServer);
        self.stall(Direction::ToClient);
    }

    /// Ends latency and stalls, lets what was held back go on, and accepts connections again.
    ///
    /// # Errors
    ///
    /// When connections were refused and the port is taken by another process since.
    pub fn heal(&self) -> Result<()> {
        self.shared.faults.send_modify(|faults| {
            faults.to_server = Line::default();
            faults.to_client = Line::default();
        });
        self.order(Order::Accept)
    }

    /// Ends all open connections.
    pub fn cut(&self, how: Cut) {
        self.shared
            .faults
            .send_modify(|faults| faults.cut = (faults.cut.0 + 1, Some(how)));
    }

    /// Lets `bytes` more go in a direction, counted over all connections, and then closes the
    /// connection that carried the last of them. Later bytes of other connections pass.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.shared
            .allowance(direction)
            .store(bytes, Ordering::SeqCst);
    }

    /// Refuses new connections, as a host does on which nothing listens, until [`Proxy::heal`].
    /// Open ones go on.
    ///
    /// # Errors
    ///
    /// When the thread of the proxy has ended, which is a bug.
    pub fn refuse(&self) -> Result<()> {
        self.order(Order::Refuse)
    }

    /// What went through so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.shared.counts()
    }

    /// Waits until `reached` accepts the counts, and returns whether it did within `timeout`.
    pub fn wait_until(&self, timeout: Duration, reached: impl Fn(&Counts) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut counts = self.shared.counts();
        while !reached(&counts) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(counts, left);
            counts = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn order(&self, order: impl FnOnce(blocking::Sender<Result<()>>) -> Order) -> Result<()> {
        let (done, answer) = blocking::channel();
        let orders = self.orders.as_ref().context("the proxy is being dropped")?;
        orders
            .send(order(done))
            .ok()
            .context("the proxy's thread has ended")?;
        answer.recv().context("the proxy's thread has ended")?
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported by itself.
            let _ = thread.join();
        }
    }
}

/// Listens on an address that this process may have listened on a moment ago.
fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(BACKLOG)?)
}

/// The thread of a proxy: accepts connections and has each relayed.
struct Acceptor {
    address: SocketAddr,
    target: String,
    shared: Arc<Shared>,
}

impl Acceptor {
    /// Runs until the proxy is dropped, which drops the sender of `orders`.
    async fn run(self, listener: TcpListener, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut listener = Some(listener);
        let mut relays = JoinSet::new();
        loop {
            let accept = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order, &mut listener),
                    None => return,
                },
                // An accept that fails concerns one connection that is gone already.
                Ok((client, _)) = accept => self.relay(client, &mut relays),
                Some(_) = relays.join_next() => {}
            }
        }
    }

    fn obey(&self, order: Order, listener: &mut Option<TcpListener>) {
        let (done, result) = match order {
            Order::Refuse(done) => {
                *listener = None;
                (done, Ok(()))
            }
            Order::Accept(done) if listener.is_some() => (done, Ok(())),
            Order::Accept(done) => match listen(self.address) {
                Ok(opened) => {
                    *listener = Some(opened);
                    (done, Ok(()))
                }
                Err(error) => (done, Err(error.context("cannot listen again"))),
            },
        };
        // The one who ordered waits for this answer.
        let _ = done.send(result);
    }

    fn relay(&self, client: TcpStream, relays: &mut JoinSet<()>) {
        let shared = Arc::clone(&self.shared);
        let target = self.target.clone();
        // A cut that follows the count concerns this connection, even one not yet relayed.
        let first_cut = shared.faults.borrow().cut.0;
        shared.count(|counts| {
            counts.accepted += 1;
            counts.open += 1;
        });
        relays.spawn(async move {
            relay::run(client, &target, &shared, first_cut).await;
            shared.count(|counts| counts.open -= 1);
        });
    }
}
