//! Looking up names: the DNS seed list, and the addresses of hosts.

#[cfg(feature = "dns")]
mod message;
#[cfg(feature = "dns")]
mod system;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mongo_uri::{ConnectionString, Rescan, ServerAddress, SrvQuestion, SrvRecord, TxtRecord};
use tokio::net::lookup_host;

use crate::error::{DnsFailure, Error, Result};
use crate::topology::seed;

/// How long the records of a seed list may take altogether.
const LOOKUP_LIMIT: Duration = Duration::from_secs(30);

/// What a [`Resolver`] answers, later.
pub type Lookup<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Looks names up for a client, in the place of this machine's DNS: for a network with a service
/// registry of its own, or for a test.
///
/// No record of a name is an empty list. Dropping a look-up's future gives it up.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// The SRV records of a name such as `_mongodb._tcp.cluster.example.com`.
    fn srv<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<SrvRecord>>;

    /// The TXT records of a name.
    fn txt<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<TxtRecord>>;

    /// The addresses of a host; the operating system's, unless this is written anew.
    fn addresses<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a, Vec<SocketAddr>> {
        Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
    }
}

/// Takes the place of a resolver where none is given.
#[derive(Debug)]
struct OwnResolver;

impl Resolver for OwnResolver {
    #[cfg(feature = "dns")]
    fn srv<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<SrvRecord>> {
        Box::pin(system::srv(name))
    }

    #[cfg(feature = "dns")]
    fn txt<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<TxtRecord>> {
        Box::pin(system::txt(name))
    }

    #[cfg(not(feature = "dns"))]
    fn srv<'a>(&'a self, _name: &'a str) -> Lookup<'a, Vec<SrvRecord>> {
        Box::pin(async { Err(lacking()) })
    }

    #[cfg(not(feature = "dns"))]
    fn txt<'a>(&'a self, _name: &'a str) -> Lookup<'a, Vec<TxtRecord>> {
        Box::pin(async { Err(lacking()) })
    }
}

#[cfg(not(feature = "dns"))]
fn lacking() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this build lacks the feature `dns`, and no resolver is given",
    )
}

/// The resolver of clients that are given none.
pub(crate) fn own() -> Arc<dyn Resolver> {
    Arc::new(OwnResolver)
}

async fn srv(resolver: &dyn Resolver, asked: &SrvQuestion) -> Result<Vec<SrvRecord>> {
    limited(&asked.srv, resolver.srv(&asked.srv)).await
}

async fn limited<T>(name: &str, lookup: Lookup<'_, T>) -> Result<T> {
    let limited = tokio::time::timeout(LOOKUP_LIMIT, lookup).await;
    let failure = match limited {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(source)) => DnsFailure::Failed(source),
        Err(_) => DnsFailure::Timeout(LOOKUP_LIMIT),
    };
    Err(Error::Dns {
        name: name.to_owned(),
        failure,
    })
}

/// The connection string with the hosts and options of its seed list, and the least time to live
/// of the SRV records; `None` where there is nothing to look up.
///
/// # Errors
/// [`Error::Dns`], [`Error::Uri`].
pub(crate) async fn resolve(
    resolver: &dyn Resolver,
    uri: &ConnectionString,
) -> Result<Option<(ConnectionString, Option<Duration>)>> {
    let Some(question) = uri.srv_question().filter(|_| uri.hosts.is_empty()) else {
        return Ok(None);
    };
    let records = srv(resolver, &question).await?;
    let txt = limited(&question.txt, resolver.txt(&question.txt)).await?;
    let resolved = uri.resolve(&records, &txt, seed())?;
    let ttl = records.iter().map(|record| record.ttl).min();
    Ok(Some((resolved, ttl)))
}

/// A client's seed list, to be looked at again.
#[derive(Clone, Debug)]
pub(crate) struct SeedList {
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) uri: ConnectionString,
}

impl SeedList {
    /// What it means now for a topology of these servers; a look-up that fails finds nothing.
    pub(crate) async fn rescan(&self, current: BTreeSet<ServerAddress>, seed: u64) -> Rescan {
        let Some(question) = self.uri.srv_question() else {
            return Rescan::default();
        };
        match srv(&*self.resolver, &question).await {
            Ok(records) => self.uri.rescan(&records, &current, seed),
            Err(_) => Rescan::default(),
        }
    }
}
