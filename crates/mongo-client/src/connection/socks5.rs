//! The client's side of SOCKS5 (RFC 1928, RFC 1929), as far as the SOCKS5 Support specification
//! wants it: CONNECT, without authentication or with user name and password.
//!
//! Names go to the proxy as they are; nothing is resolved here.

use std::fmt;
use std::net::IpAddr;

use mongo_uri::{ProxyOptions, Secret, ServerAddress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{ProxyFailure, ProxyRefusal};

const VERSION: u8 = 5;
/// The version of the exchange of user name and password.
const LOGIN_VERSION: u8 = 1;
const NO_AUTHENTICATION: u8 = 0;
const LOGIN: u8 = 2;
const NOTHING_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

type Result<T, E = ProxyFailure> = std::result::Result<T, E>;

/// A proxy that every TCP connection of a client goes through.
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    login: Option<(String, Secret)>,
}

impl Proxy {
    pub(super) fn new(options: &ProxyOptions) -> Self {
        let login = options.username.clone().zip(options.password.clone());
        Self {
            host: options.host.clone(),
            port: options.port.unwrap_or(ProxyOptions::DEFAULT_PORT),
            login,
        }
    }

    /// For errors.
    pub(super) fn address(&self) -> ServerAddress {
        ServerAddress::tcp(&self.host, self.port)
    }

    /// Has the proxy, at the other end of the stream, connect to the host; the stream then leads
    /// there. After an error, or when the future is dropped, the stream is of no more use.
    pub(super) async fn open_way<S>(&self, stream: &mut S, host: &str, port: u16) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.authenticate(stream).await?;
        send(stream, &request(host, port)?).await?;
        let [version, code, _, kind] = read(stream).await?;
        check(version == VERSION, "its reply has another version")?;
        if code != 0 {
            let refusal = ProxyRefusal::of(code);
            return Err(ProxyFailure::Refused { refusal });
        }
        // The address that the proxy connects from is of no interest, but has to be read.
        match kind {
            IPV4 => drop(read::<_, 6>(stream).await?),
            IPV6 => drop(read::<_, 18>(stream).await?),
            NAME => {
                let [len] = read(stream).await?;
                let mut rest = vec![0; usize::from(len) + 2];
                let read = stream.read_exact(&mut rest).await;
                read.map_err(ProxyFailure::Broken)?;
            }
            _ => check(false, "its reply has an address of an unknown kind")?,
        }
        Ok(())
    }

    async fn authenticate<S>(&self, stream: &mut S) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let offer: &[u8] = match self.login {
            Some(_) => &[VERSION, 2, NO_AUTHENTICATION, LOGIN],
            None => &[VERSION, 1, NO_AUTHENTICATION],
        };
        send(stream, offer).await?;
        let [version, method] = read(stream).await?;
        check(version == VERSION, "its greeting has another version")?;
        match (method, &self.login) {
            (NO_AUTHENTICATION, _) => Ok(()),
            (LOGIN, Some((name, password))) => {
                let mut message = vec![LOGIN_VERSION];
                append(&mut message, name, "proxyUsername")?;
                append(&mut message, password.expose(), "proxyPassword")?;
                send(stream, &message).await?;
                let [_, status] = read(stream).await?;
                if status == 0 {
                    Ok(())
                } else {
                    Err(ProxyFailure::AuthenticationRefused)
                }
            }
            (NOTHING_ACCEPTABLE, _) => Err(ProxyFailure::AuthenticationRequired),
            _ => check(false, "it chose an authentication that was not offered"),
        }
    }
}

fn request(host: &str, port: u16) -> Result<Vec<u8>> {
    let mut message = vec![VERSION, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            message.push(IPV4);
            message.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            message.push(IPV6);
            message.extend(address.octets());
        }
        Err(_) => {
            message.push(NAME);
            append(&mut message, host, "the host name")?;
        }
    }
    message.extend(port.to_be_bytes());
    Ok(message)
}

/// Appends a text of 1 to 255 bytes behind its length.
fn append(message: &mut Vec<u8>, text: &str, what: &'static str) -> Result<()> {
    match u8::try_from(text.len()) {
        Ok(len) if len > 0 => {
            message.push(len);
            message.extend(text.as_bytes());
            Ok(())
        }
        _ => Err(ProxyFailure::Unsayable { what }),
    }
}

fn check(holds: bool, reason: &'static str) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(ProxyFailure::NotSocks5 { reason })
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<()> {
    let sent = stream.write_all(bytes).await;
    sent.map_err(ProxyFailure::Broken)
}

async fn read<S: AsyncRead + Unpin, const LEN: usize>(stream: &mut S) -> Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    let read = stream.read_exact(&mut bytes).await;
    read.map_err(ProxyFailure::Broken)?;
    Ok(bytes)
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.address())
    }
}

#[cfg(test)]
mod tests;
