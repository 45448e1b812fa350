//! What can be wrong with a connection string or with the DNS answer to one.
//!
//! No message quotes the part before the options, for a misplaced separator may put a password
//! anywhere in it: a position says where to look.

use thiserror::Error;

use crate::credential::CredentialError;
use crate::srv::SrvError;

/// Why a connection string cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UriError {
    /// The text does not follow the grammar of the Connection String specification.
    #[error("malformed connection string at byte {position}: {problem}")]
    Malformed {
        /// Offset of the offending byte in the text given.
        position: usize,
        /// What is wrong there.
        problem: Problem,
    },
    /// An option's value is one that must not be ignored.
    #[error("option {option}: {problem}")]
    Option {
        /// The option's canonical name.
        option: &'static str,
        /// What is wrong with it.
        problem: OptionProblem,
    },
    /// Parts of the connection string exclude each other.
    #[error("{first} and {second} exclude each other: {advice}")]
    Conflict {
        /// One option, or a part of the connection string.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The credential lacks something or has too much.
    #[error("credential: {0}")]
    Credential(#[from] CredentialError),
    /// The SRV and TXT records cannot be used.
    #[error("DNS seed list: {0}")]
    Srv(#[from] SrvError),
}

/// A breach of the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// Neither scheme.
    #[error("a connection string starts with mongodb:// or mongodb+srv://")]
    Scheme,
    /// `%` without two hexadecimal digits.
    #[error("% must be followed by two hexadecimal digits; write a percent sign as %25")]
    PercentEscape,
    /// The decoded bytes are not UTF-8.
    #[error("the percent-decoded text is not UTF-8")]
    NotUtf8,
    /// A character in user name or password that needs encoding.
    #[error(
        "user name and password must be percent-encoded (write : as %3A, / as %2F, @ as %40, space as %20)"
    )]
    UserInfoCharacter,
    /// An `@` without a user name before it.
    #[error("the user name before @ is empty; remove the @ or give a user name")]
    EmptyUsername,
    /// A host that is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A character that no database name may hold.
    #[error("a database name holds no slash, backslash, space, double quote, dollar sign or NUL")]
    DatabaseCharacter,
    /// An option without `=`.
    #[error("an option is written name=value")]
    MissingEquals,
    /// An option without a name.
    #[error("an option needs a name before its =")]
    EmptyName,
    /// More than one host in a `mongodb+srv` string.
    #[error("mongodb+srv:// takes exactly one host name")]
    SrvHosts,
    /// A port in a `mongodb+srv` string.
    #[error("mongodb+srv:// takes no port; the SRV records hold it")]
    SrvPort,
    /// A socket or IP literal in a `mongodb+srv` string.
    #[error("mongodb+srv:// takes a DNS name, no address literal or socket path")]
    SrvName,
}

/// Why a text is no server address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Nothing there.
    #[error("host name missing (percent-encode the path of a unix socket: / as %2F)")]
    Empty,
    /// No usable port after the colon.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// More than one colon outside brackets.
    #[error("more than one colon in a host; write an IPv6 address in brackets, as in [::1]:27017")]
    BareColons,
    /// Unbalanced brackets, or text after them.
    #[error("an IPv6 address ends with ] and may be followed by :port only")]
    Brackets,
    /// What stands in the brackets is no IPv6 address.
    #[error(
        "the brackets hold no IPv6 address (write the % of a zone as %25 in a connection string)"
    )]
    Ipv6,
    /// A character that no host name may hold.
    #[error("a host name holds no space, control character or separator")]
    HostCharacter,
    /// A path that does not end in `.sock`.
    #[error("the path of a unix socket ends in .sock")]
    SocketSuffix,
}

/// A value that must not be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionProblem {
    /// No value where the option needs one.
    #[error("the value is empty; give one or remove the option")]
    Empty,
    /// An option given twice that may be given once.
    #[error("given more than once; keep one")]
    Repeated,
    /// Instances that differ where they must agree.
    #[error("given with different values (tls and ssl are the same option); keep one")]
    Contradictory,
    /// The value is outside what the option takes.
    #[error("expected {expected}")]
    Invalid {
        /// What the option takes.
        expected: &'static str,
    },
    /// An option that needs another.
    #[error("needs {other} beside it")]
    Needs {
        /// The missing option.
        other: &'static str,
    },
    /// An option of `mongodb+srv` in a plain connection string.
    #[error("only valid with mongodb+srv://")]
    SrvOnly,
}
