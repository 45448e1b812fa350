//! `cargo xtask bench`: all benchmarks in one run, as one table of times, ratios and goals.

mod plot;
mod streams;
mod table;

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::shell;
use table::ROWS;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only benchmarks whose name has this in it; the table has what earlier runs measured, too.
    filter: Option<String>,
    /// Only one of the two tables.
    #[arg(long, value_enum)]
    only: Option<Table>,
}

/// What there is to measure.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Table {
    /// The crates without IO, function by function.
    Cores,
    /// Change streams from end to end, beside other clients.
    Streams,
}

/// Runs the benchmarks, prints their tables, and leaves them in `target/bench`.
///
/// # Errors
/// A benchmark does not build or run, or the folder cannot be written. A goal that is missed is
/// told in the table and is no error: the machine may be busy.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.only != Some(Table::Streams) {
        cores(arguments)?;
    }
    if arguments.only == Some(Table::Streams) || arguments.filter.is_none() {
        streams::run(&shell::root().join("target/bench"))?;
    }
    Ok(())
}

/// Runs the benchmarks of the cores, and leaves their table in `target/bench/table.txt`.
///
/// # Errors
/// A benchmark does not build or run, or the folder cannot be written. A goal that is missed is
/// told in the table and is no error: the machine may be busy.
fn cores(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = shell::root().join("target/bench");
    let results = folder.join("criterion");
    let mut command = shell::cargo();
    command.args(["bench", "--quiet", "--package", "benches", "--"]);
    command.args(&arguments.filter);
    shell::run(command.env("CRITERION_HOME", &results))?;
    let mut lines = vec![format!(
        "{:<52} {:>11} {:>11} {:>7}  {}",
        "", "ours", "bare", "ratio", "goal"
    )];
    for row in ROWS {
        let ours = samples(&results, row.ours)?;
        let bare = row.bare.map(|name| samples(&results, name)).transpose()?;
        if let Some(ours) = ours {
            lines.push(row.line(&ours, bare.flatten().as_deref()));
        }
    }
    let table = lines.join("\n");
    fs::write(folder.join("table.txt"), format!("{table}\n"))?;
    shell::say(&table);
    Ok(())
}

/// Nanoseconds of each sample of a benchmark's last run; `None` if it has not been run.
fn samples(results: &Path, name: &str) -> anyhow::Result<Option<Vec<f64>>> {
    // Criterion keeps the results of `group/case` in folders of these names.
    let path = results.join(name).join("new/sample.json");
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(None);
    };
    let samples: Samples =
        serde_json::from_str(&text).with_context(|| format!("no samples in {}", path.display()))?;
    let each = samples.times.iter().zip(&samples.iters);
    let each: Vec<f64> = each.map(|(time, count)| time / count).collect();
    anyhow::ensure!(!each.is_empty(), "no samples in {}", path.display());
    Ok(Some(each))
}

/// What was measured, sample by sample.
#[derive(serde::Deserialize)]
struct Samples {
    /// Nanoseconds.
    times: Vec<f64>,
    /// How often the work was done meanwhile.
    iters: Vec<f64>,
}
