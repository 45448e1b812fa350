//! A server that follows a script, for what a real one cannot be made to show: late, hostile or
//! missing answers, other wire versions, a router or a load balancer.
//!
//! It answers `hello` from a [`HelloScript`], with streaming when that says so, `ping`,
//! `endSessions` and `killCursors` with success, and every other command as the test says; a
//! command without an answer fails as an unknown one does (code 59). All commands are recorded.

mod answer;
mod hello;
mod serve;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bson::RawDocumentBuf;
use rustix::net::sockopt::set_socket_linger;

pub use self::answer::Answer;
use self::answer::Step;
pub use self::hello::HelloScript;

/// A command that the server received.
#[derive(Debug, Clone)]
pub struct Received {
    /// The connection it came on: 1 for the first one accepted, and so on.
    pub connection: u64,
    /// When it was complete.
    pub at: Instant,
    /// The command's name, as it was written.
    pub name: String,
    /// The database: `$db`, or the one that a legacy hello's namespace names.
    pub database: String,
    /// The body, with everything that was sent beside the command.
    pub body: RawDocumentBuf,
    /// The document sequences beside the body, each with its name.
    pub sequences: Vec<(String, Vec<RawDocumentBuf>)>,
    /// The message's request id.
    pub request_id: i32,
    /// Whether the client lets the server send more replies than one.
    pub exhaust_allowed: bool,
    /// Whether the client waits for no reply.
    pub more_to_come: bool,
    /// Whether it came compressed; the answer goes out plain all the same.
    pub compressed: bool,
    /// Whether it came as an OP_QUERY, as a first hello may.
    pub legacy: bool,
}

impl Received {
    /// Whether it is a hello, by whichever of its names.
    #[must_use]
    pub fn is_hello(&self) -> bool {
        self.name == "hello" || self.name.eq_ignore_ascii_case("ismaster")
    }
}

/// A scripted server on a free loopback port; its connections end when it is dropped.
#[derive(Debug)]
pub struct ScriptedServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

type Responder = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

/// What the connections' threads and the test share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified of every change of the state.
    changed: Condvar,
}

struct State {
    hello: HelloScript,
    /// Counts the changes of `hello`; the counter of its topologyVersion.
    hello_version: i64,
    once: HashMap<String, VecDeque<Answer>>,
    always: HashMap<String, Responder>,
    released: HashSet<String>,
    received: Vec<Received>,
    /// The open connections by number.
    open: HashMap<u64, TcpStream>,
    accepted: u64,
    closing: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("hello", &self.hello)
            .field("accepted", &self.accepted)
            .field("received", &self.received.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    /// Waits until `reached` accepts the state, the server is dropped, or `timeout` is over.
    /// Returns the state and whether it was accepted.
    fn wait(
        &self,
        timeout: Duration,
        mut reached: impl FnMut(&State) -> bool,
    ) -> (MutexGuard<'_, State>, bool) {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let accepted = reached(&state);
            if accepted || state.closing || left.is_zero() {
                return (state, accepted);
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl ScriptedServer {
    /// Starts a server that says `hello` of itself. The script is given the server's address.
    ///
    /// # Errors
    ///
    /// When there is no free port or no thread can be started.
    pub fn start(hello: impl FnOnce(&str) -> HelloScript) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = State {
            hello: hello(&address.to_string()),
            hello_version: 0,
            once: HashMap::new(),
            always: HashMap::new(),
            released: HashSet::new(),
            received: Vec::new(),
            open: HashMap::new(),
            accepted: 0,
            closing: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("scripted server".to_owned())
                .spawn(move || serve::accept(&listener, &shared))?
        };
        Ok(Self {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Its address, `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its connection string, without options.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("mongodb://{}/", self.address)
    }

    /// Says something else in answer to hello from now on. Clients that wait for a change get it
    /// at once.
    pub fn set_hello(&self, hello: HelloScript) {
        self.shared.change(|state| {
            state.hello = hello;
            state.hello_version += 1;
        });
    }

    /// Answers the next command named `command` with `answer`; further calls queue up. A hello is
    /// meant by `hello`, whichever of its names the client uses.
    pub fn once(&self, command: &str, answer: Answer) {
        self.shared.change(|state| {
            state
                .once
                .entry(command.to_owned())
                .or_default()
                .push_back(answer);
        });
    }

    /// Answers every command named `command`, when no answer of [`ScriptedServer::once`] is left.
    pub fn always(
        &self,
        command: &str,
        respond: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) {
        self.shared
            .change(|state| state.always.insert(command.to_owned(), Arc::new(respond)));
    }

    /// Lets the answers go on that wait for `gate` ([`Answer::then_hold`]), now and later.
    pub fn release(&self, gate: &str) {
        self.shared
            .change(|state| state.released.insert(gate.to_owned()));
    }

    /// All commands received so far, hellos among them, in the order they were complete.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.state().received.clone()
    }

    /// The commands named `name` received so far.
    #[must_use]
    pub fn received_named(&self, name: &str) -> Vec<Received> {
        let named = |received: &&Received| received.name == name;
        self.shared
            .state()
            .received
            .iter()
            .filter(named)
            .cloned()
            .collect()
    }

    /// Waits until `reached` accepts the commands received so far, and returns them.
    ///
    /// # Errors
    ///
    /// When it does not within `timeout`; the error lists what was received.
    pub fn wait_for(
        &self,
        timeout: Duration,
        mut reached: impl FnMut(&[Received]) -> bool,
    ) -> Result<Vec<Received>> {
        let (state, accepted) = self.shared.wait(timeout, |state| reached(&state.received));
        if !accepted {
            let names: Vec<_> = state.received.iter().map(|r| r.name.as_str()).collect();
            bail!(
                "not received within {timeout:?}; received: {}",
                names.join(", ")
            );
        }
        Ok(state.received.clone())
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.state().accepted
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.state().open.len()
    }

    /// Waits until as many connections are open, and returns whether that was within `timeout`.
    #[must_use]
    pub fn wait_for_open(&self, timeout: Duration, count: usize) -> bool {
        self.shared
            .wait(timeout, |state| state.open.len() == count)
            .1
    }

    /// Closes all open connections, in the middle of an answer or not.
    pub fn close_connections(&self) {
        for stream in self.shared.state().open.values() {
            // A connection that is gone already is as good as closed.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.shared.change(|state| state.closing = true);
        self.close_connections();
        // The acceptor sees that it is closing when it has accepted something.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            // A panic in it was reported by itself.
            let _ = acceptor.join();
        }
    }
}

/// Has a connection reset, rather than closed, when its last handle is dropped.
fn reset_on_drop(stream: &TcpStream) {
    // It fails only when the connection is gone, which is as good.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}
