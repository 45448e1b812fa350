//! The public specification tests, as PyMongo's source distribution carries them.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::fetch::{Cache, SPEC_TESTS};

/// Returns the folder that holds the JSON tests, fetched on the first call.
///
/// It is the `test` folder of a PyMongo source distribution: one folder a specification, such as
/// `change_streams/unified` or `discovery_and_monitoring`.
///
/// # Errors
///
/// Those of [`Cache::obtain`], or a distribution without a `test` folder.
pub fn obtain() -> Result<PathBuf> {
    let folder = Cache::shared()
        .obtain(&SPEC_TESTS)?
        .join("source")
        .join("test");
    ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    Ok(folder)
}
