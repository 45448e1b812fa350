//! The prose tests of the change streams specification, each named by its number, and every option
//! at every level, on real servers of each version that is to be had. Number 6 and half of number 2
//! need servers that no real one can be made to be.
//!
//! One replica set runs at a time: the tests of a version share it, and it ends with the last.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in helpers too"
)]

mod deployment;
mod options;
mod prose;
mod scripted;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use testbed::mongod::ServerVersion;

use self::deployment::{World, run};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One version after the other, so that only one server runs at a time.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for version in ServerVersion::PINNED {
        live(&mut trials, version);
    }
    trials.push(Trial::test("scripted::prose_02_event_without_id", || {
        run(scripted::prose_02());
        Ok(())
    }));
    trials.push(Trial::test(
        "scripted::prose_06_resume_selects_a_server",
        || {
            run(scripted::prose_06());
            Ok(())
        },
    ));
    let conclusion = libtest_mimic::run(&arguments, trials);
    deployment::stop();
    conclusion.exit_code()
}

/// The tests of one version; those it cannot run are not among them.
fn live(trials: &mut Vec<Trial>, version: ServerVersion) {
    macro_rules! tests {
        ($($test:path),+ $(,)?) => {$({
            let name = stringify!($test).rsplit("::").next().unwrap_or_default().trim();
            trials.push(Trial::test(format!("{}::{name}", label(version)), move || {
                run(async move { $test(World::new(version).await).await });
                Ok(())
            }));
        })+};
    }
    tests!(
        prose::prose_01_token_follows_every_event,
        prose::prose_02_event_without_id,
        prose::prose_03_resumes_with_the_same_options,
        prose::prose_04_aggregate_errors_are_final,
        prose::prose_07_empty_first_batch_stays_open,
        prose::prose_08_failed_kill_cursors_is_invisible,
        prose::prose_11_used_up_batch_gives_its_end,
        prose::prose_13_middle_of_a_batch_gives_the_last_id,
        prose::prose_14_unread_first_batch_gives_the_option,
        prose::prose_17_start_after_is_kept_without_results,
        prose::prose_18_start_after_becomes_resume_after,
        options::every_option_at_every_level,
        options::a_filter_with_everything,
        options::two_resumes_in_a_row_keep_the_options,
    );
    if version == ServerVersion::V6_0 {
        tests!(prose::prose_19_large_events_are_split);
    }
}

fn label(version: ServerVersion) -> &'static str {
    match version {
        ServerVersion::V4_2 => "4.2",
        ServerVersion::V4_4 => "4.4",
        ServerVersion::V5_0 => "5.0",
        ServerVersion::V6_0 => "6.0",
        _ => "default",
    }
}
