//! One case of a specification's tests, and how cases become named tests.

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::dir::{SpecDir, SpecFile};
use crate::json::field;

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
        f.write_str(&self.full_name())
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

    /// `suite/file`, and the description if there is one.
    pub fn full_name(&self) -> String {
        let Self {
            suite, file, name, ..
        } = self;
        if name.is_empty() {
            format!("{suite}/{file}")
        } else {
            format!("{suite}/{file}: {name}")
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

/// The named tests of a suite; a suite that cannot be loaded or holds no case is one failing test.
pub fn trials(dir: &SpecDir, suite: &'static str, load: Loader) -> Vec<Trial> {
    let loaded = load(dir, suite).and_then(|cases| {
        ensure!(!cases.is_empty(), "no case found");
        Ok(cases)
    });
    match loaded {
        Ok(cases) => cases
            .into_iter()
            .map(|case| {
                Trial::test(case.full_name(), move || {
                    case.run().map_err(|error| failed(&error))
                })
            })
            .collect(),
        Err(error) => vec![Trial::test(suite, move || Err(failed(&error)))],
    }
}

fn failed(error: &anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}
