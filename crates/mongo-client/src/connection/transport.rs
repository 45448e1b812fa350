//! From an address to a byte stream: a unix socket, or name look-up, TCP, proxy and TLS, each
//! within the connect time-out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mongo_uri::ServerAddress;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::socks5::Proxy;
use super::{ByteStream, eyeballs, within};
use crate::dns::{self, Resolver};
use crate::error::{Error, IoAction, ProxyFailure, Result};
use crate::options::ClientOptions;

/// A connection that has been idle for so long is probed, so that a peer that is gone without a
/// word, and a router that forgets idle connections, are noticed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);
/// The pause between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Probes without an answer until the connection counts as broken.
const KEEPALIVE_PROBES: u32 = 9;

/// How the connections of one client reach a server.
#[derive(Debug)]
pub(crate) struct Transport {
    /// For each phase by itself; `None` waits for ever.
    timeout: Option<Duration>,
    proxy: Option<Proxy>,
    resolver: Arc<dyn Resolver>,
    #[cfg(feature = "tls")]
    tls: Option<super::tls::Tls>,
}

impl Transport {
    /// Reads the files that the TLS options name. `timeout` limits each phase by itself.
    ///
    /// # Errors
    /// [`Error::TlsFile`], [`Error::Misuse`].
    pub(crate) fn new(options: &ClientOptions, timeout: Option<Duration>) -> Result<Self> {
        Ok(Self {
            timeout,
            proxy: options.uri.options.proxy.as_ref().map(Proxy::new),
            resolver: options.resolver.clone().unwrap_or_else(dns::own),
            #[cfg(feature = "tls")]
            tls: super::tls::Tls::new(options)?,
        })
    }

    /// Whether what is said to the server can be read on the way.
    pub(crate) fn is_plain(&self, server: &ServerAddress) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return false;
        }
        matches!(server, ServerAddress::Tcp { .. })
    }

    /// Opens a stream. Dropping the future closes whatever is open by then.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Timeout`], [`Error::Proxy`], [`Error::Tls`].
    pub(crate) async fn open(&self, server: &ServerAddress) -> Result<Box<dyn ByteStream>> {
        let stream = match (server, &self.proxy) {
            (ServerAddress::Unix { path }, _) => {
                let connecting = connect_unix(server, path);
                within(self.timeout, server, IoAction::Connect, connecting).await?
            }
            (ServerAddress::Tcp { host, port }, None) => {
                Box::new(self.connect_tcp(server, host, *port).await?)
            }
            (ServerAddress::Tcp { host, port }, Some(proxy)) => {
                self.connect_by(proxy, server, host, *port).await?
            }
        };
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let handshake = tls.connect(server, stream);
            return within(self.timeout, server, IoAction::Tls, handshake).await;
        }
        Ok(stream)
    }

    async fn connect_tcp(
        &self,
        server: &ServerAddress,
        host: &str,
        port: u16,
    ) -> Result<TcpStream> {
        let resolving = async {
            let found = self.resolver.addresses(host, port).await;
            found.map_err(|source| Error::of_stream(server, IoAction::Resolve, source))
        };
        let addresses = within(self.timeout, server, IoAction::Resolve, resolving).await?;
        let connecting = async {
            let connected = eyeballs::race(addresses, TcpStream::connect).await;
            let ready = connected.and_then(prepared);
            ready.map_err(|source| Error::of_stream(server, IoAction::Connect, source))
        };
        within(self.timeout, server, IoAction::Connect, connecting).await
    }

    async fn connect_by(
        &self,
        proxy: &Proxy,
        server: &ServerAddress,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn ByteStream>> {
        let fail = |failure| Error::Proxy {
            server: server.clone(),
            proxy: proxy.address(),
            failure: Box::new(failure),
        };
        let connecting = async {
            let addresses = self.resolver.addresses(&proxy.host, proxy.port).await?;
            let connected = eyeballs::race(addresses, TcpStream::connect).await;
            connected.and_then(prepared)
        };
        let connecting = async {
            let connected = connecting.await;
            connected.map_err(|source| fail(ProxyFailure::Unreachable(source)))
        };
        let mut stream = within(self.timeout, server, IoAction::Proxy, connecting).await?;
        let opening = async {
            let opened = proxy.open_way(&mut stream, host, port).await;
            opened.map_err(fail)
        };
        within(self.timeout, server, IoAction::Proxy, opening).await?;
        Ok(Box::new(stream))
    }
}

#[cfg(unix)]
async fn connect_unix(
    server: &ServerAddress,
    path: &std::path::Path,
) -> Result<Box<dyn ByteStream>> {
    match tokio::net::UnixStream::connect(path).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(source) => Err(Error::of_stream(server, IoAction::Connect, source)),
    }
}

#[cfg(not(unix))]
async fn connect_unix(
    _server: &ServerAddress,
    _path: &std::path::Path,
) -> Result<Box<dyn ByteStream>> {
    let what = "a unix socket, on a system without them,";
    Err(Error::Misuse(crate::error::Misuse::Unsupported { what }))
}

/// The options of a socket that commands go over.
fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
    #[cfg(any(
        target_os = "linux",
        target_os = "android",
        target_os = "macos",
        target_os = "freebsd",
        target_os = "windows"
    ))]
    let keepalive = keepalive
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    // Deadlines notice a dead peer too: a system without the option is no reason to fail.
    if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "no keepalive");
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_kept_alive_and_not_delayed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = prepared(TcpStream::connect(address).await.unwrap()).unwrap();
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
        }
    }
}
