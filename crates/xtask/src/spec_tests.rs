//! `cargo xtask spec-tests`: the public specification tests.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use spec_tests::coverage;
use spec_tests::dir::SpecDir;
use spec_tests::report::{Report, Status};
use spec_tests::runner::{self, Options, Progress, Run, Target};
use spec_tests::skips::Skips;
use spec_tests::suites;
use spec_tests::unified::ExtraOptions;
use testbed::mongod::{Binary, ServerVersion, Version};

use crate::shell;

/// The page about the pinned set, from the workspace's root.
const PAGE: &str = "docs/spec-coverage.md";

/// The default server that the page is about.
const PAGE_VERSION: Version = Version::new(6, 0, 5);

/// Which tests to run, and against what.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// A suite, and all whose names go on after it and a slash; may be repeated.
    #[arg(long, value_name = "NAME")]
    suite: Vec<String>,
    /// Run only cases with this in their full name, which is `suite/file: description`.
    #[arg(long, value_name = "SUBSTRING")]
    case: Option<String>,
    /// A checkout of mongodb/specifications or a source distribution of PyMongo, instead of the
    /// pinned set.
    #[arg(long, value_name = "DIR")]
    specs: Option<PathBuf>,
    /// Run against this deployment, whose data is lost, instead of those that are started.
    #[arg(long)]
    uri: Option<String>,
    /// Compressors for every connection, such as `zstd,snappy`.
    #[arg(long, value_name = "LIST")]
    compressors: Option<String>,
    /// Prefer deployments with access control.
    #[arg(long, conflicts_with = "uri")]
    auth: bool,
    /// How many deployments of a kind are used at once.
    #[arg(long, value_name = "N", default_value_t = default_lanes())]
    jobs: usize,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Write the report as JUnit XML.
    #[arg(long, value_name = "FILE.xml")]
    junit: Option<PathBuf>,
    /// Write the page of the documentation.
    #[arg(long, value_name = "FILE.md")]
    coverage: Option<PathBuf>,
}

/// Cases wait more than they work.
fn default_lanes() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Runs the tests that are asked for and prints what became of them.
///
/// # Errors
/// A case fails, a skip has no reason or is needless, or something cannot be obtained.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = options(arguments)?;
    let run = perform(&options)?;
    let report = &run.report;
    if let Some(path) = &arguments.report {
        let json = serde_json::to_string_pretty(report)?;
        fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &arguments.junit {
        fs::write(path, report.junit()).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &arguments.coverage {
        let page = coverage::page(report, &options.skips);
        fs::write(path, page).with_context(|| path.display().to_string())?;
    }
    conclude(&run)
}

/// Runs the pinned set and checks that the page about it is true.
///
/// # Errors
/// As [`run`], or the page is out of date.
pub(crate) fn check() -> anyhow::Result<()> {
    let arguments = Arguments {
        jobs: default_lanes(),
        ..Arguments::default()
    };
    let options = options(&arguments)?;
    let mut run = perform(&options)?;
    if Binary::locate(ServerVersion::Default)?.version() == PAGE_VERSION {
        let committed = fs::read_to_string(shell::root().join(PAGE)).context(PAGE)?;
        let page = coverage::page(&run.report, &options.skips);
        if let Some(difference) = coverage::difference(&committed, &page) {
            let complaint = format!("{PAGE} is not what this run calls for: {difference}");
            run.complaints.push(complaint);
        }
    }
    conclude(&run)
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    let dir = match &arguments.specs {
        Some(folder) => SpecDir::open(folder)?,
        None => SpecDir::obtain()?,
    };
    let compressors = arguments.compressors.iter();
    Ok(Options {
        suites: suites::select(&arguments.suite)?,
        case: arguments.case.clone(),
        skips: Skips::load()?.about(&dir),
        dir,
        target: match &arguments.uri {
            Some(uri) => Target::Uri(uri.clone()),
            None => Target::Local {
                auth: arguments.auth,
            },
        },
        extra: ExtraOptions {
            uri_options: compressors
                .map(|list| ("compressors".to_owned(), list.clone()))
                .collect(),
            ..ExtraOptions::default()
        },
        lanes: arguments.jobs.max(1),
    })
}

/// Runs with a progress bar, and prints each failure as it comes.
fn perform(options: &Options) -> anyhow::Result<Run> {
    let bar = ProgressBar::new(0);
    let style = "{elapsed_precise} [{wide_bar}] {pos}/{len} {msg}";
    bar.set_style(ProgressStyle::with_template(style)?);
    let run = runner::run(options, &|progress| match progress {
        Progress::Planned(cases) => bar.set_length(u64::try_from(cases).unwrap_or(u64::MAX)),
        Progress::Done(case) => {
            bar.set_message(case.suite.clone());
            bar.inc(1);
            if case.status == Status::Failed {
                let reason = case.reason.as_deref().unwrap_or_default();
                bar.suspend(|| {
                    shell::complain(&format!("FAILED {}\n{reason}\n", case.full_name()));
                });
            }
        }
    });
    bar.finish_and_clear();
    run
}

fn conclude(run: &Run) -> anyhow::Result<()> {
    shell::say(&run.report.table());
    for name in failed(&run.report) {
        shell::complain(&format!("failed: {name}"));
    }
    for complaint in &run.complaints {
        shell::complain(complaint);
    }
    if !run.is_good() {
        let failed = run.report.total().failed;
        bail!(
            "{failed} cases failed, {} other complaints",
            run.complaints.len()
        );
    }
    Ok(())
}

fn failed(report: &Report) -> Vec<String> {
    let failed = report
        .cases
        .iter()
        .filter(|case| case.status == Status::Failed);
    failed.map(|case| case.full_name()).collect()
}
