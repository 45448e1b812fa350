//! The longer texts in spans.

use std::error::Error as StdError;
use std::fmt::{self, Write};

use bson::RawDocument;

use crate::error::Error;
use crate::events::{REDACTED, as_sent};
use crate::logs::shortened;

/// What stands beside a command and is not told of it.
const NOT_TOLD: [&str; 4] = ["lsid", "$db", "$clusterTime", "signature"];

/// What has happened, and to what: `find shop.orders`.
pub(super) fn summary(name: &str, database: &str, collection: Option<&str>) -> String {
    match collection {
        Some(collection) => format!("{name} {database}.{collection}"),
        None => format!("{name} {database}"),
    }
}

/// A command as extended JSON, of so many characters at most.
pub(super) fn query_text(
    command: &RawDocument,
    beside: [Option<&RawDocument>; 2],
    max_length: usize,
) -> String {
    shortened(&as_sent(command, beside, &NOT_TOLD), max_length)
}

/// A failure as spans tell of it.
pub(super) struct Traced {
    pub(super) type_name: String,
    pub(super) message: String,
    /// The error and its causes, one a line: errors of Rust know no stack.
    pub(super) trace: String,
}

impl Traced {
    pub(super) fn of_error(error: &Error) -> Self {
        let mut variant = FirstWord::default();
        // It ends with the first word, not with the text.
        let _ = write!(variant, "{error:?}");
        Self::new(&variant.0, error)
    }

    /// Of an error that stands, or would stand, in this variant of the client's.
    pub(super) fn new(variant: &str, error: &dyn StdError) -> Self {
        let type_name = format!("mongo_client::Error::{variant}");
        let message = error.to_string();
        let mut trace = format!("{type_name}: {message}");
        let mut cause = error.source();
        while let Some(error) = cause {
            trace.push_str("\ncaused by: ");
            trace.push_str(&error.to_string());
            cause = error.source();
        }
        Self {
            type_name,
            message,
            trace,
        }
    }

    /// Leaves only the type.
    pub(super) fn redact(&mut self) {
        self.message = REDACTED.to_owned();
        self.trace = format!("{}: {REDACTED}", self.type_name);
    }
}

/// Takes a text up to the end of its first word.
#[derive(Default)]
struct FirstWord(String);

impl Write for FirstWord {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.find(|c: char| !c.is_alphanumeric());
        self.0.push_str(&text[..end.unwrap_or(text.len())]);
        end.map_or(Ok(()), |_| Err(fmt::Error))
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use mongo_uri::ServerAddress;

    use super::*;
    use crate::error::IoAction;

    #[test]
    fn an_error_is_told_with_its_variant_and_its_causes() {
        let server = ServerAddress::tcp("h", 1);
        let source = std::io::Error::other(std::io::Error::other("the cable"));
        let action = IoAction::Send;
        let io = Error::Io {
            server,
            action,
            source,
        };
        let mut traced = Traced::of_error(&io);
        assert_eq!(traced.type_name, "mongo_client::Error::Io");
        assert_eq!(traced.message, io.to_string());
        let first = format!("mongo_client::Error::Io: {io}\ncaused by: the cable");
        assert!(traced.trace.starts_with(&first), "{}", traced.trace);
        traced.redact();
        assert!(!traced.trace.contains("cable") && !traced.message.contains("cable"));
        let shutdown = Traced::of_error(&Error::Shutdown);
        assert_eq!(shutdown.type_name, "mongo_client::Error::Shutdown");
    }

    #[test]
    fn a_command_is_told_as_it_is_sent_without_session_database_and_time() {
        let command = rawdoc! { "find": "c", "filter": { "x": 1_i64 } };
        let beside = rawdoc! { "$db": "d", "lsid": {}, "$clusterTime": {}, "maxTimeMS": 5 };
        let declared = rawdoc! { "apiVersion": "1" };
        let text = |limit| query_text(&command, [Some(&beside), Some(&declared)], limit);
        let whole = r#"{"find":"c","filter":{"x":1},"maxTimeMS":5,"apiVersion":"1"}"#;
        assert_eq!(text(1_000), whole);
        assert_eq!(text(8), r#"{"find":..."#);
    }
}
