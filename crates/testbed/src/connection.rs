//! A blocking connection that runs one command at a time: what the testbed needs to set up and
//! look at servers. It shares no code with the client that is tested but the codec.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use bytes::BytesMut;
use mongo_wire::{Document, Limits, Message, OpMsg, decode};

/// How many bytes are read at once.
const READ_SIZE: usize = 16 * 1024;

/// An open connection to one server, without a handshake, compression or TLS.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    received: BytesMut,
    next_request_id: i32,
}

/// A reply that says `ok: 0`.
#[derive(Debug, Clone)]
pub struct CommandFailed {
    /// The command's name.
    pub command: String,
    /// The server's error code, or 0 when it gave none.
    pub code: i32,
    /// The server's message.
    pub message: String,
    /// The whole reply.
    pub reply: RawDocumentBuf,
}

impl fmt::Display for CommandFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} failed with {}: {}",
            self.command, self.code, self.message
        )
    }
}

impl std::error::Error for CommandFailed {}

impl Connection {
    /// Connects to `address` (`host:port`). `timeout` bounds the connect and every wait for bytes.
    ///
    /// # Errors
    ///
    /// When no address of the host accepts the connection in time.
    pub fn open(address: &str, timeout: Duration) -> Result<Self> {
        let mut failure = None;
        for resolved in address
            .to_socket_addrs()
            .with_context(|| address.to_owned())?
        {
            match TcpStream::connect_timeout(&resolved, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(timeout))?;
                    stream.set_write_timeout(Some(timeout))?;
                    return Ok(Self {
                        stream,
                        received: BytesMut::new(),
                        next_request_id: 1,
                    });
                }
                Err(error) => failure = Some(error),
            }
        }
        let failure = failure.map_or_else(|| "it has no address".to_owned(), |e| e.to_string());
        bail!("cannot connect to {address}: {failure}")
    }

    /// Runs `command` on `database` and returns the reply. The command has no `$db` of its own.
    ///
    /// # Errors
    ///
    /// [`CommandFailed`] for a reply with `ok: 0`; anything else that fails leaves the connection
    /// unusable.
    pub fn run_command(&mut self, database: &str, command: &RawDocument) -> Result<RawDocumentBuf> {
        let name = command_name(command)?;
        let reply = self
            .exchange(database, command)
            .with_context(|| name.clone())?;
        if is_ok(&reply) {
            return Ok(reply);
        }
        let failed = CommandFailed {
            command: name,
            code: reply.get_i32("code").unwrap_or_default(),
            message: reply
                .get_str("errmsg")
                .unwrap_or("it gave no message")
                .to_owned(),
            reply,
        };
        Err(failed.into())
    }

    fn exchange(&mut self, database: &str, command: &RawDocument) -> Result<RawDocumentBuf> {
        let mut body = command.to_owned();
        body.append(bson::cstr!("$db"), database);
        let request_id = self.next_request_id;
        self.next_request_id = request_id.wrapping_add(1);
        let mut bytes = BytesMut::new();
        OpMsg::new(request_id, Document::from(body)).encode(&mut bytes, &Limits::default())?;
        self.stream.write_all(&bytes)?;
        let Message::Msg(reply) = self.read_message()? else {
            bail!("the reply is no OP_MSG");
        };
        if reply.response_to != request_id {
            bail!(
                "the reply answers request {}, not {request_id}",
                reply.response_to
            );
        }
        Ok(RawDocumentBuf::from_bytes(
            reply.body().as_bytes().to_vec(),
        )?)
    }

    fn read_message(&mut self) -> Result<Message> {
        let mut chunk = vec![0; READ_SIZE];
        loop {
            if let Some(message) = decode(&mut self.received, &Limits::default())? {
                return Ok(message);
            }
            let count = read_some(&mut self.stream, &mut chunk)?;
            if count == 0 {
                bail!("the server closed the connection");
            }
            self.received.extend_from_slice(&chunk[..count]);
        }
    }
}

/// Reads what there is, at least one byte unless there is no more. A read with a time limit fails
/// when the process is stopped and goes on, which only means to read again.
///
/// # Errors
///
/// As [`Read::read`], but for [`ErrorKind::Interrupted`].
pub fn read_some(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn command_name(command: &RawDocument) -> Result<String> {
    let first = command.iter().next().context("a command has a name")??;
    Ok(first.0.as_str().to_owned())
}

/// Whether a reply's `ok` is 1, in whatever numeric type the server wrote it.
fn is_ok(reply: &RawDocument) -> bool {
    match reply.get("ok") {
        Ok(Some(RawBsonRef::Double(ok))) => ok == 1.0,
        Ok(Some(RawBsonRef::Int32(ok))) => ok == 1,
        Ok(Some(RawBsonRef::Int64(ok))) => ok == 1,
        Ok(Some(RawBsonRef::Boolean(ok))) => ok,
        _ => false,
    }
}

/// What a server says about itself in its answer to `hello`.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    /// Whether it has the configuration of a replica set.
    pub(crate) in_set: bool,
    pub(crate) is_primary: bool,
    pub(crate) is_secondary: bool,
    pub(crate) is_arbiter: bool,
    /// The address of the primary that this server knows.
    pub(crate) primary: Option<String>,
    topology_version: Option<RawDocumentBuf>,
}

impl Hello {
    /// Asks once. The legacy name is the one that every server from 4.2 to today understands.
    pub(crate) fn ask(connection: &mut Connection) -> Result<Self> {
        Self::parse(&connection.run_command("admin", &rawdoc! { "isMaster": 1 })?)
    }

    /// Waits on the server until its answer differs from this one, or for `max_await`. A server
    /// before 4.4 cannot wait and answers at once.
    pub(crate) fn await_change(
        &self,
        connection: &mut Connection,
        max_await: Duration,
    ) -> Result<Self> {
        let Some(topology_version) = self.topology_version.clone() else {
            std::thread::sleep(POLL_PACE);
            return Self::ask(connection);
        };
        let command = rawdoc! {
            "isMaster": 1,
            "topologyVersion": topology_version,
            "maxAwaitTimeMS": i64::try_from(max_await.as_millis())?,
        };
        Self::parse(&connection.run_command("admin", &command)?)
    }

    fn parse(reply: &RawDocument) -> Result<Self> {
        let flag = |name: &str| reply.get_bool(name).unwrap_or(false);
        Ok(Self {
            in_set: reply.get_str("setName").is_ok(),
            is_primary: flag("ismaster") || flag("isWritablePrimary"),
            is_secondary: flag("secondary"),
            is_arbiter: flag("arbiterOnly"),
            primary: reply.get_str("primary").ok().map(str::to_owned),
            topology_version: reply
                .get_document("topologyVersion")
                .ok()
                .map(ToOwned::to_owned),
        })
    }
}

/// The pause between two questions to a server that cannot tell of a change, or to none at all.
pub(crate) const POLL_PACE: Duration = Duration::from_millis(20);
