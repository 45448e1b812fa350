//! PyMongo as this program uses it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use testbed::pymongo;

static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| pymongo::obtain().unwrap());

/// Runs Python with PyMongo at hand and returns what it prints.
pub(crate) fn python(args: &[&OsStr]) -> String {
    pymongo::python(&LIBRARY, args).unwrap()
}

pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/messages.py")
}
