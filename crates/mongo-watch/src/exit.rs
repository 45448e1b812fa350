//! What ends the program other than success, and the exit code that tells a shell.

use std::fmt;
use std::io;
use std::process::ExitCode;

use mongo_client::Error;
use mongo_client::change_stream::{ErrorClass, StreamError};
use mongo_client::wire::JsonError;

/// The server's code for a change stream on a standalone server.
const NOT_A_REPLICA_SET: i32 = 40573;

/// Why the program ends. Clap's own 2 stands for arguments that cannot be understood.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 3: the connection string is wrong or asks for what is not there.
    Uri(Error),
    /// 4: no suitable server was found in time.
    NoServer(Error),
    /// 5: the server refuses the change stream.
    Refused(Error),
    /// 6: the stream broke and could not be resumed.
    Broken(Error),
    /// 6: an event is not valid BSON.
    Unreadable(JsonError),
    /// 7: the output cannot be written.
    Output(io::Error),
    /// 8: the resume file cannot be used, or is of another stream.
    Place(Error),
    /// 9: the check has found that the stream could not be opened.
    Check,
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Uri(_) => 3,
            Self::NoServer(_) => 4,
            Self::Refused(_) => 5,
            Self::Broken(_) | Self::Unreadable(_) => 6,
            Self::Output(_) => 7,
            Self::Place(_) => 8,
            Self::Check => 9,
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Uri(_) | Error::Misuse(_) | Error::TlsFile { .. } => Self::Uri(error),
            Error::Checkpoint(_) => Self::Place(error),
            Error::Selection { .. } | Error::Dns { .. } => Self::NoServer(error),
            Error::ChangeStream { error: stream, .. } if selection_error(stream).is_some() => {
                Self::NoServer(error)
            }
            Error::ChangeStream {
                error: stream @ StreamError::Server { .. },
                ..
            } if stream.class() == ErrorClass::Permanent => Self::Refused(error),
            _ => Self::Broken(error),
        }
    }
}

/// The cause at the bottom, if it is that no server was found.
fn selection_error(error: &StreamError) -> Option<&Error> {
    let StreamError::Failed { failure, .. } = error else {
        return None;
    };
    let source = failure.source.as_deref()?.downcast_ref();
    source.filter(|source| matches!(source, Error::Selection { .. }))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(Error::ChangeStream { server, error })
                if error.code() == Some(NOT_A_REPLICA_SET) =>
            {
                if let Some(server) = server {
                    write!(f, "{server}: ")?;
                }
                write!(
                    f,
                    "this is a standalone server, and change streams need a replica set or a \
                     sharded cluster: start mongod with --replSet and run rs.initiate() once \
                     ({error})"
                )
            }
            Self::NoServer(error) => match error {
                // What the stream adds about its own commands is of no use here.
                Error::ChangeStream { error: stream, .. } => {
                    selection_error(stream).unwrap_or(error).fmt(f)
                }
                _ => error.fmt(f),
            },
            Self::Uri(error) | Self::Refused(error) => error.fmt(f),
            Self::Broken(error) => write!(f, "the stream is lost: {error}"),
            Self::Unreadable(error) => write!(f, "an event cannot be read: {error}"),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
            Self::Check => f.write_str("the stream could not be opened like this"),
            Self::Place(error) => write!(
                f,
                "the resume file cannot be used: {error}; without it the stream starts at \"now\""
            ),
        }
    }
}
