//! Running the cases of one place.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::plan::{Job, Work};
use super::{Options, Place, Progress, judge};
use crate::report::{CaseReport, Status};
use crate::servers::{Kind, Running};
use crate::unified::{Deployment, Failure, Outcome, run_case};

/// How long a case may take; the longest wait seconds.
const CASE_LIMIT: Duration = Duration::from_secs(90);

/// A further deployment is worth its start for this many cases more.
const CASES_PER_LANE: usize = 15;

/// Runs jobs of a place, so many at once at most, and returns what became of them, each with its
/// number.
pub(super) fn run(
    options: &Options,
    place: &Place,
    jobs: Vec<Job>,
    most: usize,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Vec<(usize, CaseReport)> {
    let lanes = match place {
        Place::Given(_) => 1,
        Place::Anywhere | Place::Local(..) => jobs.len().div_ceil(CASES_PER_LANE).min(most),
    };
    let queue = Mutex::new(VecDeque::from(jobs));
    let finished = Mutex::new(Vec::new());
    let lane = Lane {
        options,
        queue: &queue,
        finished: &finished,
        progress,
    };
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| lane.run(place));
        }
    });
    finished
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

/// One of the threads that share a place's jobs.
struct Lane<'a> {
    options: &'a Options,
    queue: &'a Mutex<VecDeque<Job>>,
    finished: &'a Mutex<Vec<(usize, CaseReport)>>,
    progress: &'a (dyn Fn(Progress<'_>) + Sync),
}

impl Lane<'_> {
    fn run(&self, place: &Place) {
        match place {
            Place::Local(kind, _) => self.run_local(kind),
            Place::Anywhere | Place::Given(_) => {
                while let Some(job) = self.next() {
                    self.perform(job, place.deployment());
                }
            }
        }
    }

    /// A case that did not end in time may have left anything behind, so the next one gets another
    /// deployment.
    fn run_local(&self, kind: &Kind) {
        let mut running: Option<Running> = None;
        while let Some(job) = self.next() {
            if running.is_none() {
                match kind.start() {
                    Ok(started) => running = Some(started),
                    Err(error) => {
                        let report = job.name.report(Status::Failed, Some(format!("{error:#}")));
                        self.finish(job.number, report);
                        continue;
                    }
                }
            }
            let deployment = running.as_ref().map(Running::deployment);
            if !self.perform(job, deployment) {
                running = None;
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    }

    fn finish(&self, number: usize, report: CaseReport) {
        (self.progress)(Progress::Done(&report));
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.push((number, report));
    }

    /// Runs a job and returns whether it ended in time.
    fn perform(&self, job: Job, deployment: Option<&Deployment>) -> bool {
        let Job { number, name, work } = job;
        let skips = &self.options.skips;
        let began = Instant::now();
        let (in_time, (status, reason)) = match (work, deployment) {
            (Work::Alone(case), _) => {
                let ended = run_in_time(move || case.run().map_err(|error| format!("{error:#}")));
                let (in_time, problem) = match ended {
                    Ended::By(result) => (true, result.err()),
                    Ended::Otherwise { in_time, problem } => (in_time, Some(problem)),
                };
                (in_time, judge::alone(&name, problem, skips))
            }
            (Work::Unified(case), Some(deployment)) => {
                let claim = case.claim;
                let (deployment, extra) = (deployment.clone(), self.options.extra.clone());
                let run = move || run_case(&case.file, case.index, &deployment, &extra);
                let (in_time, outcome) = match run_in_time(run) {
                    Ended::By(outcome) => (true, outcome),
                    Ended::Otherwise { in_time, problem } => (in_time, failure(problem)),
                };
                (in_time, judge::unified(claim, &name, &outcome, skips))
            }
            (Work::Unified(_), None) => {
                let complaint = "there is no deployment to run it on".to_owned();
                (true, (Status::Failed, Some(complaint)))
            }
        };
        let mut report = name.report(status, reason);
        report.seconds = began.elapsed().as_secs_f64();
        self.finish(number, report);
        in_time
    }
}

/// How running a case came to its end.
enum Ended<T> {
    /// By itself.
    By(T),
    /// By a panic, or not within [`CASE_LIMIT`].
    Otherwise { in_time: bool, problem: String },
}

/// Runs a case in a thread of its own, which is left alone if it does not end.
fn run_in_time<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Ended<T> {
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(run));
        // Nobody listens any more if it took too long.
        let _ = sender.send(result.map_err(|panic| panic_message(&*panic)));
    });
    match ended.recv_timeout(CASE_LIMIT) {
        Ok(Ok(result)) => Ended::By(result),
        Ok(Err(problem)) => Ended::Otherwise {
            in_time: true,
            problem,
        },
        Err(_) => Ended::Otherwise {
            in_time: false,
            problem: format!("the case did not end within {CASE_LIMIT:?}"),
        },
    }
}

fn failure(message: String) -> Outcome {
    Outcome::Failed(Failure {
        message,
        diff: None,
        events: Vec::new(),
    })
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_default())
}
