//! One case that brings along what it runs against.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::dir::{SpecDir, SpecFile};
use crate::json::field;
use crate::report::full_name;

/// One runnable case.
pub struct Case {
    /// The suite's name.
    pub suite: &'static str,
    /// The file's name within the suite, without its extension.
    pub file: String,
    /// The case's description; empty if the file is the case.
    pub name: String,
    run: Box<dyn FnOnce() -> Result<()> + Send>,
}

/// Loads the cases of a suite, whose name it is given.
pub type Loader = fn(&SpecDir, &'static str) -> Result<Vec<Case>>;

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&full_name(self.suite, &self.file, &self.name))
    }
}

impl Case {
    /// A case that runs `run`, whose error tells the difference between what was expected and what
    /// was.
    pub fn new(
        suite: &'static str,
        file: &SpecFile,
        name: impl Into<String>,
        run: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self {
            suite,
            file: file.name.clone(),
            name: name.into(),
            run: Box::new(run),
        }
    }

    /// Runs the case.
    pub fn run(self) -> Result<()> {
        (self.run)()
    }
}

/// Makes a case of each file.
pub fn one_per_file(
    dir: &SpecDir,
    suite: &'static str,
    run: fn(&Value) -> Result<()>,
) -> Result<Vec<Case>> {
    let case = |file: SpecFile| {
        let json = file.json()?;
        Ok(Case::new(suite, &file, "", move || run(&json)))
    };
    dir.files(suite)?.into_iter().map(case).collect()
}

/// Makes a case of each entry of the array `tests` in each file, named by its `description`.
pub fn one_per_test(
    dir: &SpecDir,
    suite: &'static str,
    run: fn(&Value) -> Result<()>,
) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for file in dir.files(suite)? {
        let json = file.json()?;
        let tests = field(&json, "tests")?
            .as_array()
            .context("tests is no array")?;
        ensure!(!tests.is_empty(), "{} holds no test", file.path.display());
        for test in tests {
            let name = field(test, "description")?
                .as_str()
                .context("description")?
                .to_owned();
            let test = test.clone();
            cases.push(Case::new(suite, &file, name, move || run(&test)));
        }
    }
    Ok(cases)
}
