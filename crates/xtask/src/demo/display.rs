//! Progress while the demonstration runs.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};
use mongo_client::uri::ServerAddress;

use crate::shell;

/// Without a terminal, a line is printed for each so many events.
const LINE_EVERY: u64 = 500;

/// A bar on a terminal, now and then a line elsewhere.
pub(crate) struct Display {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Display {
    pub(crate) fn new(events: usize) -> Self {
        let bar = ProgressBar::new(u64::try_from(events).unwrap_or(u64::MAX));
        let template = "{bar:40} {pos}/{len} events  {per_sec}  primary {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    pub(crate) fn update(&self, events: u64, primary: Option<ServerAddress>) {
        let primary = primary.map_or("none".to_owned(), |address| address.to_string());
        if self.is_terminal {
            self.bar.set_message(primary);
            self.bar.set_position(events);
        } else if events.is_multiple_of(LINE_EVERY) {
            shell::complain(&format!("{events} events, primary {primary}"));
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
