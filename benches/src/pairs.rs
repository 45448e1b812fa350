//! Our work and the bare work measured in turns, for the sake of their ratio.
//!
//! Two benchmarks that run one after the other meet two different machines: caches, memory and
//! clock have changed in between. Here the two take turns of a millisecond or so, and what is
//! compared is each turn with its neighbour.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::cpu_time::CpuTime;

/// How long a turn should at least take, so that the clock's steps do not show.
const TURN: Duration = Duration::from_millis(2);
/// How many turns each of the two has.
const ROUNDS: usize = 60;

/// Takes the measurements that the arguments of the program ask for, and leaves them where
/// criterion leaves its own, in its form.
#[derive(Debug)]
pub struct Pairs {
    filter: Option<String>,
    results: PathBuf,
}

/// One side: what is measured as `group/case`, sample by sample.
struct Side<'a> {
    name: String,
    work: &'a mut dyn FnMut(),
    /// How often a turn does the work.
    repeats: u32,
    turns: Vec<Duration>,
}

impl Pairs {
    /// With the filter that `cargo bench` has passed on, if any.
    #[must_use]
    pub fn from_args() -> Self {
        let mut arguments = std::env::args().skip(1);
        let results = std::env::var_os("CRITERION_HOME");
        Self {
            filter: arguments.find(|argument| !argument.starts_with('-')),
            results: results.map_or_else(|| PathBuf::from("target/criterion"), PathBuf::from),
        }
    }

    /// Measures `ours` beside `bare`, two groups that share the case.
    ///
    /// # Panics
    /// When the results cannot be written.
    pub fn measure(
        &self,
        case: &str,
        (ours, our_work): (&str, &mut dyn FnMut()),
        (bare, bare_work): (&str, &mut dyn FnMut()),
    ) {
        let names = [ours, bare].map(|group| format!("{group}/{case}"));
        let is_wanted = |filter: &String| names.iter().any(|name| name.contains(filter));
        if !self.filter.as_ref().is_none_or(is_wanted) {
            return;
        }
        let [our_name, bare_name] = names;
        let mut ours = Side::new(our_name, our_work);
        let mut bare = Side::new(bare_name, bare_work);
        for round in 0..ROUNDS {
            // Whoever comes second finds what the first has left in the caches.
            if round % 2 == 0 {
                ours.take_turn();
                bare.take_turn();
            } else {
                bare.take_turn();
                ours.take_turn();
            }
        }
        for side in [&ours, &bare] {
            let folder = self.results.join(&side.name).join("new");
            fs::create_dir_all(&folder).expect("the folder of the results");
            fs::write(folder.join("sample.json"), side.samples()).expect("the results");
        }
    }
}

impl<'a> Side<'a> {
    fn new(name: String, work: &'a mut dyn FnMut()) -> Self {
        let mut side = Self {
            name,
            work,
            repeats: 1,
            turns: Vec::with_capacity(ROUNDS),
        };
        while side.turn() < TURN {
            side.repeats *= 2;
        }
        side
    }

    fn turn(&mut self) -> Duration {
        let start = CpuTime::now();
        for _ in 0..self.repeats {
            (self.work)();
        }
        CpuTime::now() - start
    }

    fn take_turn(&mut self) {
        let turn = self.turn();
        self.turns.push(turn);
    }

    /// Nanoseconds and repeats of each turn, as criterion writes them.
    fn samples(&self) -> String {
        let mut times = String::new();
        let mut repeats = String::new();
        for (index, turn) in self.turns.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(times, "{comma}{}.0", turn.as_nanos());
            let _ = write!(repeats, "{comma}{}.0", self.repeats);
        }
        format!(r#"{{"iters":[{repeats}],"times":[{times}]}}"#)
    }
}
