//! Deployments of real servers: a [`Standalone`] or a [`ReplicaSet`].

mod member;
mod replica_set;

use std::sync::Arc;

use anyhow::Result;

pub use self::member::Member;
pub use self::replica_set::{MemberOptions, ReplicaSet, ReplicaSetOptions};
use crate::home::Home;
use crate::mongod::{Binary, MongodOptions, ServerVersion};

/// One server outside any replica set.
#[derive(Debug)]
pub struct Standalone {
    member: Member,
}

impl Standalone {
    /// Starts the default server.
    ///
    /// # Errors
    ///
    /// When there is no mongod or it does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(ServerVersion::Default, MongodOptions::default())
    }

    /// Starts a server of a version with options.
    ///
    /// # Errors
    ///
    /// As [`Standalone::start`].
    pub fn start_with(version: ServerVersion, options: MongodOptions) -> Result<Self> {
        let binary = Arc::new(Binary::locate(version)?);
        let home = Arc::new(Home::new()?);
        Ok(Self {
            member: Member::start(0, binary, home, options)?,
        })
    }

    /// The server, to stop, pause, or run commands on.
    #[must_use]
    pub fn server(&self) -> &Member {
        &self.member
    }

    /// Its address, `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.member.address()
    }

    /// Its connection string.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("mongodb://{}/", self.address())
    }
}
