//! Where a server listens (Connection String specification, "Host Identifier").

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::AddressError;

/// The port of a server whose address names none.
pub const DEFAULT_PORT: u16 = 27017;

/// Where one server listens: a host and port, or a unix domain socket.
///
/// Equal addresses are the same server to a topology, so hosts are kept in lower case (SDAM
/// specification, "address"). Use [`ServerAddress::tcp`] or [`str::parse`] rather than the variant
/// to get that. `Display` and `FromStr` agree with each other: `host:port`, `[v6]:port`, or the
/// path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerAddress {
    /// A host name, IPv4 address or IPv6 address (without brackets, perhaps with `%zone`), and a
    /// port.
    Tcp {
        /// The host in lower case; the zone of an IPv6 address keeps its case.
        host: String,
        /// The port, never 0 when it comes from a connection string.
        port: u16,
    },
    /// A unix domain socket, absolute or relative; its path ends in `.sock`.
    Unix {
        /// The path, decoded.
        path: PathBuf,
    },
}

impl ServerAddress {
    /// A host and port; the host is lower-cased, the zone of an IPv6 address aside.
    pub fn tcp(host: &str, port: u16) -> Self {
        Self::Tcp {
            host: lower_host(host),
            port,
        }
    }

    /// A unix domain socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix { path: path.into() }
    }

    /// The host of a TCP address.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } => Some(host),
            Self::Unix { .. } => None,
        }
    }

    /// The port of a TCP address.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port, .. } => Some(*port),
            Self::Unix { .. } => None,
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "{}", path.display()),
        }
    }
}

/// Reads the form that servers report in `hosts` and that `Display` writes; nothing is
/// percent-decoded. A host without a port gets [`DEFAULT_PORT`].
impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains('/') {
            return socket(text);
        }
        let (host, port) = split_port(text)?;
        check_host(host)?;
        Ok(Self::tcp(strip_brackets(host), port))
    }
}

/// The address of a unix domain socket, whose path must end in `.sock`.
pub(crate) fn socket(path: &str) -> Result<ServerAddress, AddressError> {
    if !path.ends_with(".sock") || path.contains('\0') {
        return Err(AddressError::SocketSuffix);
    }
    Ok(ServerAddress::unix(path))
}

/// Splits `host[:port]`, `[v6][:port]` into the host, brackets kept, and the port.
pub(crate) fn split_port(text: &str) -> Result<(&str, u16), AddressError> {
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or(AddressError::Brackets)?;
        let (host, rest) = text.split_at(end + 1);
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(AddressError::Brackets),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(AddressError::BareColons),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    Ok((host, port.map_or(Ok(DEFAULT_PORT), read_port)?))
}

fn read_port(text: &str) -> Result<u16, AddressError> {
    // `u16::from_str` alone would accept "+1".
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::Port);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(AddressError::Port),
        Ok(port) => Ok(port),
    }
}

/// Checks a decoded host: a bracketed IPv6 literal or a name without separators in it.
pub(crate) fn check_host(host: &str) -> Result<(), AddressError> {
    if host.is_empty() {
        return Err(AddressError::Empty);
    }
    if let Some(literal) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let (address, zone) = match literal.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (literal, None),
        };
        let zone_is_fine = zone.is_none_or(|zone| !zone.is_empty() && !zone.contains(is_separator));
        return match address.parse::<Ipv6Addr>() {
            Ok(_) if zone_is_fine => Ok(()),
            _ => Err(AddressError::Ipv6),
        };
    }
    if host.contains(is_separator) {
        Err(AddressError::HostCharacter)
    } else {
        Ok(())
    }
}

/// What no host name may hold: it would be read as something else when the address is written.
fn is_separator(c: char) -> bool {
    c.is_whitespace() || c.is_control() || ":/@[]?#%,\\\"".contains(c)
}

pub(crate) fn strip_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
}

fn lower_host(host: &str) -> String {
    match host.split_once('%') {
        // Interface names differ by case on some systems.
        Some((address, zone)) => format!("{}%{zone}", address.to_lowercase()),
        None => host.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_addresses_are_read() {
        let table = [
            ("a", ServerAddress::tcp("a", 27017)),
            ("A.Example:1", ServerAddress::tcp("a.example", 1)),
            ("[::1]", ServerAddress::tcp("::1", 27017)),
            (
                "[FE80::1%Eth0]:65535",
                ServerAddress::tcp("fe80::1%Eth0", 65535),
            ),
            (
                "/tmp/MongoDB-27017.sock",
                ServerAddress::unix("/tmp/MongoDB-27017.sock"),
            ),
            ("rel/a.sock", ServerAddress::unix("rel/a.sock")),
            (
                "mongodb-27017.sock",
                ServerAddress::tcp("mongodb-27017.sock", 27017),
            ),
        ];
        for (text, expected) in table {
            let address: ServerAddress = text.parse().expect(text);
            assert_eq!(address, expected);
            assert_eq!(address.to_string().parse(), Ok(expected));
        }
    }

    #[test]
    fn broken_addresses_are_refused_for_their_reason() {
        let table = [
            ("", AddressError::Empty),
            (":1", AddressError::Empty),
            ("a:", AddressError::Port),
            ("a:0", AddressError::Port),
            ("a:+1", AddressError::Port),
            ("a:-1", AddressError::Port),
            ("a:65536", AddressError::Port),
            ("a::1", AddressError::BareColons),
            ("::1", AddressError::BareColons),
            ("[::1", AddressError::Brackets),
            ("[::1]x", AddressError::Brackets),
            ("[nope]", AddressError::Ipv6),
            ("[::1%]", AddressError::Ipv6),
            ("a b", AddressError::HostCharacter),
            ("/tmp/mongodb", AddressError::SocketSuffix),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<ServerAddress>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn hosts_compare_without_case() {
        assert_eq!(
            ServerAddress::tcp("Example.COM", 1),
            ServerAddress::tcp("example.com", 1)
        );
    }
}
