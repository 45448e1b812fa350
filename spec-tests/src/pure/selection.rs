//! `server-selection/*` and `max-staleness`: described servers in, the ones to choose from out.

mod described;
mod logic;
mod rtt;
mod window;

pub use logic::cases as logic;
pub use rtt::cases as rtt;
pub use window::cases as in_window;
