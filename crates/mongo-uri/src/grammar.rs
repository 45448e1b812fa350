//! The grammar of a connection string: from one text to its decoded parts.
//!
//! ```text
//! mongodb://user:password@host:27017,host2/database?name=value&name=value
//! \_______/ \___________/ \______________/ \______/ \___________________/
//!  scheme     user info        hosts       database        options
//! ```

use crate::address::{self, ServerAddress};
use crate::error::{AddressError, Problem, UriError};
use crate::options::Pair;
use crate::percent;
use crate::secret::Secret;

/// What `mongodb://` or `mongodb+srv://` leads to.
#[derive(Debug, PartialEq)]
pub(crate) enum Target {
    Hosts(Vec<ServerAddress>),
    Srv(String),
}

/// The decoded parts.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) user: Option<(String, Option<Secret>)>,
    pub(crate) target: Target,
    pub(crate) database: Option<String>,
    pub(crate) options: Vec<Pair>,
}

/// A piece of the text and where it begins.
#[derive(Clone, Copy)]
struct Piece<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Piece<'a> {
    fn split_at(self, at: usize) -> (Self, Self) {
        let (left, right) = self.text.split_at(at);
        (
            Self { text: left, ..self },
            Self {
                text: right,
                start: self.start + at,
            },
        )
    }

    /// Splits at the separator, a byte long, that stands at `at`.
    fn cut(self, at: usize) -> (Self, Self) {
        let (left, right) = self.split_at(at);
        (left, right.skip(1))
    }

    fn skip(self, bytes: usize) -> Self {
        self.split_at(bytes).1
    }

    fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut start = self.start;
        self.text.split(separator).map(move |text| {
            let piece = Piece { text, start };
            start += text.len() + separator.len_utf8();
            piece
        })
    }

    fn error(self, offset: usize, problem: impl Into<Problem>) -> UriError {
        UriError::Malformed {
            position: self.start + offset,
            problem: problem.into(),
        }
    }

    fn decode(self) -> Result<String, UriError> {
        percent::decode(self.text).map_err(|(offset, problem)| self.error(offset, problem))
    }
}

/// Splits a connection string.
pub(crate) fn split(text: &str) -> Result<Parts, UriError> {
    let whole = Piece { text, start: 0 };
    let (srv, rest) = if text.starts_with("mongodb://") {
        (false, whole.skip("mongodb://".len()))
    } else if text.starts_with("mongodb+srv://") {
        (true, whole.skip("mongodb+srv://".len()))
    } else {
        return Err(whole.error(0, Problem::Scheme));
    };

    // Only the options may hold a plain slash, and the slash before them may be missing.
    let (authority, rest) = rest.split_at(rest.text.find(['/', '?']).unwrap_or(rest.text.len()));
    let (path, query) = rest.split_at(rest.text.find('?').unwrap_or(rest.text.len()));
    let (user, hosts) = match authority.text.rfind('@') {
        Some(at) => {
            let (user, hosts) = authority.cut(at);
            (Some(user_info(user)?), hosts)
        }
        None => (None, authority),
    };
    let target_and_database = || {
        let target = if srv {
            Target::Srv(srv_host(hosts)?)
        } else {
            Target::Hosts(host_list(hosts)?)
        };
        Ok((target, database(path)?))
    };
    let (target, database) = target_and_database().map_err(|error| {
        // A plain slash in the user name or password ends the hosts too early.
        if user.is_none() && path.text.contains('@') {
            path.error(0, Problem::UserInfoCharacter)
        } else {
            error
        }
    })?;
    Ok(Parts {
        user,
        target,
        database,
        options: query_options(query)?,
    })
}

/// Splits the options of a TXT record, which look like those of a connection string.
pub(crate) fn options(text: &str) -> Result<Vec<Pair>, UriError> {
    pairs(Piece { text, start: 0 })
}

/// RFC 3986, section 3.2.1, of which everything but the separators may also be non-ASCII text.
fn user_info(piece: Piece<'_>) -> Result<(String, Option<Secret>), UriError> {
    let allowed =
        |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;=".contains(c);
    let (user, password) = match piece.text.find(':') {
        Some(at) => {
            let (user, password) = piece.cut(at);
            (user, Some(password))
        }
        None => (piece, None),
    };
    for part in [Some(user), password].into_iter().flatten() {
        if let Some(at) = part.text.find(|c| !allowed(c)) {
            return Err(part.error(at, Problem::UserInfoCharacter));
        }
    }
    if user.text.is_empty() {
        return Err(user.error(0, Problem::EmptyUsername));
    }
    Ok((
        user.decode()?,
        password
            .map(|text| text.decode().map(Secret::from))
            .transpose()?,
    ))
}

fn host_list(piece: Piece<'_>) -> Result<Vec<ServerAddress>, UriError> {
    piece.split(',').map(host).collect()
}

fn host(piece: Piece<'_>) -> Result<ServerAddress, UriError> {
    let fail = |problem: AddressError| piece.error(0, problem);
    let decoded = piece.decode()?;
    if decoded.contains('/') {
        return address::socket(&decoded).map_err(fail);
    }
    // The port is cut off first: a colon that was encoded belongs to the host, which refuses it.
    let (name, port) = address::split_port(piece.text).map_err(fail)?;
    let name = Piece {
        text: name,
        ..piece
    }
    .decode()?;
    address::check_host(&name).map_err(fail)?;
    Ok(ServerAddress::tcp(address::strip_brackets(&name), port))
}

/// One DNS name without a port, in lower case.
fn srv_host(piece: Piece<'_>) -> Result<String, UriError> {
    if let Some(at) = piece.text.find(',') {
        return Err(piece.error(at, Problem::SrvHosts));
    }
    let decoded = piece.decode()?;
    if decoded.starts_with('[') || decoded.contains('/') {
        return Err(piece.error(0, Problem::SrvName));
    }
    if let Some(at) = piece.text.find(':') {
        return Err(piece.error(at, Problem::SrvPort));
    }
    let name = decoded.strip_suffix('.').unwrap_or(&decoded);
    address::check_host(name).map_err(|problem| piece.error(0, problem))?;
    if name.split('.').any(str::is_empty) {
        return Err(piece.error(0, Problem::SrvName));
    }
    Ok(name.to_lowercase())
}

/// `path` is empty or begins with the slash that ends the hosts.
fn database(path: Piece<'_>) -> Result<Option<String>, UriError> {
    if path.text.len() <= 1 {
        return Ok(None);
    }
    let piece = path.skip(1);
    let name = piece.decode()?;
    if name.contains(['/', '\\', ' ', '"', '$', '\0']) {
        return Err(piece.error(0, Problem::DatabaseCharacter));
    }
    Ok(Some(name))
}

/// `query` is empty or begins with the question mark.
fn query_options(query: Piece<'_>) -> Result<Vec<Pair>, UriError> {
    if query.text.is_empty() {
        Ok(Vec::new())
    } else {
        pairs(query.skip(1))
    }
}

fn pairs(piece: Piece<'_>) -> Result<Vec<Pair>, UriError> {
    // A leading, trailing or doubled ampersand says nothing.
    piece
        .split('&')
        .filter(|option| !option.text.is_empty())
        .map(pair)
        .collect()
}

fn pair(piece: Piece<'_>) -> Result<Pair, UriError> {
    let at = piece
        .text
        .find('=')
        .ok_or_else(|| piece.error(0, Problem::MissingEquals))?;
    let (name, value) = piece.cut(at);
    if name.text.is_empty() {
        return Err(piece.error(0, Problem::EmptyName));
    }
    Ok(Pair {
        name: name.decode()?,
        value: value.decode()?,
    })
}
