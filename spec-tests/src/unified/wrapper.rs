//! Standing between a client and the runner, to show that the runner sees what a client does wrong.

use std::fmt;

use mongo_client::Event;

/// What is told to the runner in the place of what the client says.
pub trait Wrapper: fmt::Debug + Send + Sync {
    /// An event, to be passed on as it is, changed, later or not at all.
    fn event(&self, event: &Event, pass_on: &dyn Fn(&Event)) {
        pass_on(event);
    }

    /// Whether an error has a label, if it has or has not.
    fn has_label(&self, label: &str, has: bool) -> bool {
        let _ = label;
        has
    }
}
