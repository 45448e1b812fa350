//! Which members may serve a read (Server Selection specification, "Read Preference").

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Which kinds of members may serve a read, and which come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadPreferenceMode {
    /// Only the primary.
    #[default]
    Primary,
    /// The primary, or a secondary while there is none.
    PrimaryPreferred,
    /// Only secondaries.
    Secondary,
    /// A secondary, or the primary while none fits.
    SecondaryPreferred,
    /// The primary or a secondary, whichever is near.
    Nearest,
}

impl ReadPreferenceMode {
    /// The mode's name in connection strings and in `$readPreference`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::PrimaryPreferred => "primaryPreferred",
            Self::Secondary => "secondary",
            Self::SecondaryPreferred => "secondaryPreferred",
            Self::Nearest => "nearest",
        }
    }
}

impl fmt::Display for ReadPreferenceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no read preference mode; names are case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a read preference mode: use primary, primaryPreferred, secondary, secondaryPreferred or nearest"
)]
pub struct UnknownMode;

impl FromStr for ReadPreferenceMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let modes = [
            Self::Primary,
            Self::PrimaryPreferred,
            Self::Secondary,
            Self::SecondaryPreferred,
            Self::Nearest,
        ];
        modes
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or(UnknownMode)
    }
}

/// Tags a member must carry, all of them. The empty set matches every member.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagSet(pub BTreeMap<String, String>);

impl TagSet {
    /// True if `tags`, those of a member, carry every tag of this set.
    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        self.0
            .iter()
            .all(|(name, value)| tags.get(name) == Some(value))
    }

    /// True for the set that matches every member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for TagSet {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(tags: I) -> Self {
        Self(
            tags.into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// `name:value,name:value`, as in the option `readPreferenceTags`.
impl fmt::Display for TagSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{name}:{value}")?;
        }
        Ok(())
    }
}

/// A mode with its conditions. The default is `primary`.
///
/// With mode primary neither tags nor staleness are allowed ([`ReadPreference::is_valid`]). Whether
/// the staleness is long enough depends on the heartbeat and is decided at selection (Max Staleness
/// specification).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadPreference {
    /// Which members, in which order.
    pub mode: ReadPreferenceMode,
    /// Tried in order; the first that matches some candidate decides. No set at all matches
    /// everything.
    pub tag_sets: Vec<TagSet>,
    /// How far a secondary may lag; `None` for no limit. Whole seconds travel to the server.
    pub max_staleness: Option<Duration>,
}

impl ReadPreference {
    /// A preference with this mode and no conditions.
    pub fn new(mode: ReadPreferenceMode) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    /// True unless the mode is primary and tags or a staleness are asked for.
    pub fn is_valid(&self) -> bool {
        self.mode != ReadPreferenceMode::Primary
            || (self.max_staleness.is_none() && self.tag_sets.iter().all(TagSet::is_empty))
    }
}

impl From<ReadPreferenceMode> for ReadPreference {
    fn from(mode: ReadPreferenceMode) -> Self {
        Self::new(mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_written() {
        for mode in [
            "primary",
            "primaryPreferred",
            "secondary",
            "secondaryPreferred",
            "nearest",
        ] {
            assert_eq!(
                mode.parse::<ReadPreferenceMode>().expect(mode).to_string(),
                mode
            );
        }
        assert_eq!("Primary".parse::<ReadPreferenceMode>(), Err(UnknownMode));
    }

    #[test]
    fn a_tag_set_wants_all_its_tags() {
        let member = BTreeMap::from([("dc".into(), "ny".into()), ("rack".into(), "1".into())]);
        let table: [(&[(&str, &str)], bool); 5] = [
            (&[], true),
            (&[("dc", "ny")], true),
            (&[("dc", "ny"), ("rack", "1")], true),
            (&[("dc", "ny"), ("rack", "2")], false),
            (&[("use", "reports")], false),
        ];
        for (tags, expected) in table {
            assert_eq!(
                TagSet::from_iter(tags.iter().copied()).matches(&member),
                expected
            );
        }
    }

    #[test]
    fn primary_takes_no_conditions_but_an_empty_tag_set() {
        let mut preference = ReadPreference {
            tag_sets: vec![TagSet::default()],
            ..Default::default()
        };
        assert!(preference.is_valid());
        preference.tag_sets.push(TagSet::from_iter([("dc", "ny")]));
        assert!(!preference.is_valid());
        preference.mode = ReadPreferenceMode::Nearest;
        assert!(preference.is_valid());
    }
}
