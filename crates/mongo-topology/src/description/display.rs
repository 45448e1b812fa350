//! A topology for people: the type, then one line a server.

use std::fmt;

use super::TopologyDescription;

impl fmt::Display for TopologyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.topology_type)?;
        if let Some(name) = &self.set_name {
            write!(f, " {name:?}")?;
        }
        match self.servers.len() {
            0 => write!(f, ", no servers")?,
            1 => write!(f, ", 1 server")?,
            number => write!(f, ", {number} servers")?,
        }
        if let Some(error) = &self.compatibility_error {
            write!(f, ", incompatible: {error}")?;
        }
        for server in &self.servers {
            write!(f, "\n  {server}")?;
        }
        Ok(())
    }
}
