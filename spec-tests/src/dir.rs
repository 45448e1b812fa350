//! Where the specification tests lie.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::json;
use crate::suites::{SUITES, Suite};

/// How the folders of the suites are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A checkout of `mongodb/specifications`: `source/<spec>/tests/...`.
    Specifications,
    /// PyMongo's source distribution: `test/...`.
    PyMongo,
}

/// The root of a set of specification tests.
#[derive(Clone, Debug)]
pub struct SpecDir {
    root: PathBuf,
    layout: Layout,
}

/// One JSON file of a suite.
#[derive(Clone, Debug)]
pub struct SpecFile {
    /// The path below the suite's folder, without the extension and with `/` between folders.
    pub name: String,
    /// Where the file lies.
    pub path: PathBuf,
}

impl SpecFile {
    /// The file's content.
    pub fn json(&self) -> Result<Value> {
        json::load(&self.path)
    }
}

impl SpecDir {
    /// The pinned set, fetched once.
    ///
    /// # Errors
    ///
    /// If it cannot be fetched.
    pub fn obtain() -> Result<Self> {
        Self::open(&testbed::specs::obtain()?)
    }

    /// Takes the root of either layout, or the folder above it.
    ///
    /// # Errors
    ///
    /// If `folder` looks like neither.
    pub fn open(folder: &Path) -> Result<Self> {
        let marks = [
            ("", "connection-string/tests", Layout::Specifications),
            ("source", "connection-string/tests", Layout::Specifications),
            ("", "connection_string/test", Layout::PyMongo),
            ("test", "connection_string/test", Layout::PyMongo),
        ];
        for (below, mark, layout) in marks {
            let root = folder.join(below);
            if root.join(mark).is_dir() {
                return Ok(Self { root, layout });
            }
        }
        bail!(
            "{} is neither a checkout of mongodb/specifications nor a source distribution of PyMongo",
            folder.display()
        )
    }

    /// Which layout was found.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether this layout has a copy of the suite at all.
    #[must_use]
    pub fn carries(&self, suite: &Suite) -> bool {
        self.below_root(suite).is_some()
    }

    fn below_root(&self, suite: &Suite) -> Option<&'static str> {
        match self.layout {
            Layout::Specifications => Some(suite.folders.specifications),
            Layout::PyMongo => suite.folders.pymongo,
        }
    }

    fn folder(&self, suite: &str) -> Result<PathBuf> {
        let known = SUITES.iter().find(|known| known.name == suite);
        let below = known.and_then(|known| self.below_root(known));
        let below = below.with_context(|| format!("no folder is known for suite {suite}"))?;
        Ok(self.root.join(below))
    }

    /// The JSON files of a suite, folders below it included, sorted by name.
    ///
    /// # Errors
    ///
    /// If there is none, for then the suite would prove nothing.
    pub fn files(&self, suite: &str) -> Result<Vec<SpecFile>> {
        let folder = self.folder(suite)?;
        let mut files = Vec::new();
        collect(&folder, "", &mut files).with_context(|| folder.display().to_string())?;
        if files.is_empty() {
            bail!("{} holds no JSON file", folder.display());
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<SpecFile>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        let name = format!("{prefix}{stem}");
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(SpecFile { name, path });
        }
    }
    Ok(())
}
