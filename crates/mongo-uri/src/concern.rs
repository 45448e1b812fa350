//! Read and write concern (Read and Write Concern specification).

use std::fmt;
use std::time::Duration;

/// The isolation of a read. An open set: a level this crate does not know goes to the server as it
/// is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadConcernLevel {
    /// The member's own newest data.
    Local,
    /// Data that a majority of the set has acknowledged.
    Majority,
    /// Majority data that reflects every write acknowledged before the read began.
    Linearizable,
    /// The member's own data without waiting; on sharded clusters orphans may show.
    Available,
    /// Majority data of one point in time.
    Snapshot,
    /// A level of a newer server.
    Other(String),
}

impl ReadConcernLevel {
    /// The level's name in connection strings and commands.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Local => "local",
            Self::Majority => "majority",
            Self::Linearizable => "linearizable",
            Self::Available => "available",
            Self::Snapshot => "snapshot",
            Self::Other(level) => level,
        }
    }
}

impl From<&str> for ReadConcernLevel {
    fn from(level: &str) -> Self {
        match level {
            "local" => Self::Local,
            "majority" => Self::Majority,
            "linearizable" => Self::Linearizable,
            "available" => Self::Available,
            "snapshot" => Self::Snapshot,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// A read concern; without a level it is the server's default and is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadConcern {
    /// The level, if one is asked for.
    pub level: Option<ReadConcernLevel>,
}

impl ReadConcern {
    /// A read concern with this level.
    pub fn new(level: ReadConcernLevel) -> Self {
        Self { level: Some(level) }
    }

    /// True if nothing is asked for, so that commands leave `readConcern` out.
    pub fn is_server_default(&self) -> bool {
        self.level.is_none()
    }

    /// The document that commands carry as `readConcern`.
    #[cfg(feature = "bson")]
    pub fn to_document(&self) -> bson::RawDocumentBuf {
        let mut document = bson::RawDocumentBuf::new();
        if let Some(level) = &self.level {
            document.append(bson::cstr!("level"), level.as_str());
        }
        document
    }
}

/// How many, or which, members must acknowledge a write: `w`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Acknowledgment {
    /// That many members; 0 asks for no acknowledgment at all. At most `i32::MAX`, as servers read
    /// it.
    Nodes(u32),
    /// A majority of the voting members.
    Majority,
    /// A mode that the replica set's configuration names.
    Custom(String),
}

impl From<&str> for Acknowledgment {
    fn from(mode: &str) -> Self {
        if mode == "majority" {
            Self::Majority
        } else {
            Self::Custom(mode.to_owned())
        }
    }
}

impl fmt::Display for Acknowledgment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(nodes) => write!(f, "{nodes}"),
            Self::Majority => f.write_str("majority"),
            Self::Custom(mode) => f.write_str(mode),
        }
    }
}

/// A write concern; what is `None` is left to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WriteConcern {
    /// Who must acknowledge.
    pub w: Option<Acknowledgment>,
    /// Whether the write must have reached the journal.
    pub journal: Option<bool>,
    /// How long the server waits for the acknowledgments; zero waits for ever. Milliseconds travel.
    pub w_timeout: Option<Duration>,
}

/// The write concern contradicts itself: nobody acknowledges, yet the journal is to be
/// acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("w=0 asks for no acknowledgment, journal=true for one: raise w or drop journal")]
pub struct UnacknowledgedJournal;

impl WriteConcern {
    /// True if nothing is asked for, so that commands leave `writeConcern` out.
    pub fn is_server_default(&self) -> bool {
        *self == Self::default()
    }

    /// True unless `w` is 0: the server answers the write.
    pub fn is_acknowledged(&self) -> bool {
        self.w != Some(Acknowledgment::Nodes(0))
    }

    /// Refuses `w: 0` together with `journal: true`.
    pub fn validate(&self) -> Result<(), UnacknowledgedJournal> {
        if !self.is_acknowledged() && self.journal == Some(true) {
            return Err(UnacknowledgedJournal);
        }
        Ok(())
    }

    /// The document that commands carry as `writeConcern`, in the order `w`, `j`, `wtimeout`.
    ///
    /// Numbers are 32 bits wide where they fit, else 64.
    #[cfg(feature = "bson")]
    pub fn to_document(&self) -> bson::RawDocumentBuf {
        let mut document = bson::RawDocumentBuf::new();
        match &self.w {
            Some(Acknowledgment::Nodes(nodes)) => {
                document.append(bson::cstr!("w"), integer(i64::from(*nodes)));
            }
            Some(mode) => document.append(bson::cstr!("w"), mode.to_string()),
            None => {}
        }
        if let Some(journal) = self.journal {
            document.append(bson::cstr!("j"), journal);
        }
        if let Some(timeout) = self.w_timeout {
            let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
            document.append(bson::cstr!("wtimeout"), integer(millis));
        }
        document
    }
}

#[cfg(feature = "bson")]
fn integer(number: i64) -> bson::RawBson {
    i32::try_from(number).map_or(bson::RawBson::Int64(number), bson::RawBson::Int32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written() {
        for level in [
            "local",
            "majority",
            "linearizable",
            "available",
            "snapshot",
            "from2040",
        ] {
            assert_eq!(ReadConcernLevel::from(level).as_str(), level);
        }
    }

    #[test]
    fn only_w_0_is_unacknowledged() {
        let table = [
            (None, true),
            (Some(Acknowledgment::Nodes(0)), false),
            (Some(Acknowledgment::Nodes(1)), true),
            (Some(Acknowledgment::Majority), true),
        ];
        for (w, acknowledged) in table {
            let concern = WriteConcern {
                w,
                journal: Some(true),
                w_timeout: None,
            };
            assert_eq!(concern.is_acknowledged(), acknowledged);
            assert_eq!(concern.validate().is_ok(), acknowledged);
        }
    }
}
