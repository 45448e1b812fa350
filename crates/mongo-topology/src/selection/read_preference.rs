//! The read preference that goes to the server with a command (Server Selection, "Passing read
//! preference to mongos and load balancers" and "Topology type: Single").

use std::borrow::Cow;

use bson::{RawArrayBuf, RawDocumentBuf, cstr};
use mongo_uri::{ReadPreference, ReadPreferenceMode};

use super::criteria::Operation;
use crate::description::{TopologyDescription, TopologyType};
use crate::server::ServerType;

impl TopologyDescription {
    /// The read preference to send as `$readPreference` with an operation on a server of this type;
    /// `None` when the field must be left out.
    #[must_use]
    pub fn read_preference_for_command<'a>(
        &self,
        server_type: ServerType,
        operation: Operation<'a>,
    ) -> Option<Cow<'a, ReadPreference>> {
        let Operation::Read(preference) = operation else {
            return None;
        };
        let is_primary = preference.mode == ReadPreferenceMode::Primary;
        match (self.topology_type, server_type) {
            (_, ServerType::Standalone) => None,
            (TopologyType::Single, server_type) if server_type != ServerType::Mongos => {
                // A direct connection is to be served whatever the member's state is.
                Some(if is_primary {
                    Cow::Owned(ReadPreferenceMode::PrimaryPreferred.into())
                } else {
                    Cow::Borrowed(preference)
                })
            }
            _ => (!is_primary).then_some(Cow::Borrowed(preference)),
        }
    }
}

/// The `$readPreference` document: `{mode, tags, maxStalenessSeconds}`, the latter two if given.
#[must_use]
pub fn read_preference_document(preference: &ReadPreference) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("mode"), preference.mode.as_str());
    if !preference.tag_sets.is_empty() {
        let mut sets = RawArrayBuf::new();
        for set in &preference.tag_sets {
            let mut tags = RawDocumentBuf::new();
            for (name, value) in &set.0 {
                // A name with a NUL byte in it cannot be a tag of any server.
                if let Ok(name) = <&bson::raw::CStr>::try_from(name.as_str()) {
                    tags.append(name, value.as_str());
                }
            }
            sets.push(tags);
        }
        document.append(cstr!("tags"), sets);
    }
    if let Some(limit) = preference.max_staleness {
        let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        document.append(cstr!("maxStalenessSeconds"), seconds);
    }
    document
}
