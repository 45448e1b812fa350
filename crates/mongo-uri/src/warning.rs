//! What a connection string says that is ignored or deprecated, though it can be used.

use std::fmt;

/// One thing the caller should hear about; `Display` gives the sentence to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The option: its canonical name where it is known, else as it was written.
    pub option: String,
    /// Its value, or `***` for secrets and for options this crate does not know.
    pub value: String,
    /// What happened to it.
    pub kind: WarningKind,
}

/// Why a warning was given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningKind {
    /// No such option; ignored.
    UnknownOption,
    /// The value is outside what the option takes; ignored.
    InvalidValue {
        /// What the option takes.
        expected: &'static str,
    },
    /// The value is empty; ignored.
    EmptyValue,
    /// An old word for a truth value; applied.
    DeprecatedBoolean {
        /// What it stands for.
        meaning: bool,
    },
    /// The option was given before; this value replaces the earlier one.
    Repeated,
    /// An old name of an option; applied.
    DeprecatedName {
        /// The name to use.
        replacement: &'static str,
    },
    /// An old name beside the new one; ignored.
    DeprecatedNameIgnored {
        /// The name that is applied.
        replacement: &'static str,
    },
    /// Compressors this crate does not know; the others are applied.
    UnknownCompressors {
        /// Their names.
        names: Vec<String>,
    },
    /// Compressors that the program reading the connection string was built without; it leaves
    /// them out. This crate, which has no compressors, never says so itself.
    NotBuiltIn {
        /// Their names.
        names: Vec<String>,
    },
    /// An option that the program reading the connection string does not obey. This crate, which
    /// obeys none, never says so itself.
    NoEffect,
    /// A mechanism property this crate does not know, or a piece without a colon; the others apply.
    InvalidProperty {
        /// The property's name, or `***` for a piece that has none.
        name: String,
    },
    /// Properties of an authentication that is not asked for; ignored.
    WithoutCredential,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            option,
            value,
            kind,
        } = self;
        match kind {
            WarningKind::UnknownOption => {
                write!(
                    f,
                    "unknown option {option} ignored: check its spelling or remove it"
                )
            }
            WarningKind::InvalidValue { expected } => {
                write!(f, "{option}={value} ignored: use {expected}")
            }
            WarningKind::NoEffect => write!(f, "{option} has no effect here: remove it"),
            WarningKind::EmptyValue => {
                write!(
                    f,
                    "{option} ignored, for its value is empty: give one or remove it"
                )
            }
            WarningKind::DeprecatedBoolean { meaning } => {
                write!(
                    f,
                    "{option}={value} is deprecated: write {option}={meaning}"
                )
            }
            WarningKind::Repeated => {
                write!(
                    f,
                    "{option} is repeated and {value} replaces the value before: keep one"
                )
            }
            WarningKind::DeprecatedName { replacement } => {
                write!(f, "{option} is deprecated: use {replacement}")
            }
            WarningKind::DeprecatedNameIgnored { replacement } => {
                write!(
                    f,
                    "deprecated {option}={value} ignored, for {replacement} is given: remove it"
                )
            }
            WarningKind::UnknownCompressors { names } => {
                let names = names.join(", ");
                write!(
                    f,
                    "{option}: unknown {names} ignored: use snappy, zlib or zstd"
                )
            }
            WarningKind::NotBuiltIn { names } => {
                let names = names.join(", ");
                write!(
                    f,
                    "{option}: {names} ignored: this program was built without"
                )
            }
            WarningKind::InvalidProperty { name } => write!(
                f,
                "{option}: {name} ignored: write NAME:value with a name that the mechanism knows \
                 and no comma in the value"
            ),
            WarningKind::WithoutCredential => {
                write!(
                    f,
                    "{option} has no effect without a user name or an authMechanism: remove it"
                )
            }
        }
    }
}
