//! A router of a sharded cluster, or several behind a load balancer, as clients see them: a relay to
//! a real server that says of itself what a router would.
//!
//! Only the answers to hello are changed. What it does not do is what only a real router does: there
//! are no shards, no pinned transactions with a recovery token, and commands that ask for a shard
//! fail as they do on the server behind.

mod hello;
mod relay;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Result;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What clients take it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// A mongos.
    Mongos,
    /// A load balancer, which gives its connections to so many services in turns, at least one.
    LoadBalancer(usize),
}

/// A relay on a free loopback port; its connections end when it is dropped.
#[derive(Debug)]
pub struct Router {
    address: SocketAddr,
    /// `None` only while it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Router {
    /// Starts a relay to `target`, `host:port`, which is connected to for each connection: a
    /// primary, for a router takes writes.
    ///
    /// # Errors
    ///
    /// When there is no free port or no thread can be started.
    pub fn start(target: &str, face: Face) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let target: Arc<str> = target.into();
        let serve = async move {
            tokio::select! {
                () = accept(listener, target, face) => {}
                // It is told to stop by the end of the channel.
                _ = stopped => {}
            }
        };
        let thread = thread::Builder::new()
            .name("router".to_owned())
            .spawn(move || runtime.block_on(serve))?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address to connect to, `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported by itself.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, target: Arc<str>, face: Face) {
    let mut accepted = 0;
    let mut relays = JoinSet::new();
    loop {
        tokio::select! {
            // An accept that fails concerns one connection that is gone already.
            Ok((client, _)) = listener.accept() => {
                let number: usize = accepted;
                accepted = number.wrapping_add(1);
                let role = match face {
                    Face::Mongos => hello::Role::Mongos,
                    Face::LoadBalancer(services) => hello::Role::Service(number % services.max(1)),
                };
                let target = Arc::clone(&target);
                // Whoever is at either end sees how the connection ended.
                relays.spawn(async move { drop(relay::run(client, &target, role).await) });
            }
            Some(_) = relays.join_next() => {}
        }
    }
}
