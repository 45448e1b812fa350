//! What today's drivers do where a test holds this client to more, so that a test can say both.
//!
//! The drivers' figures are quoted, not measured here: they were taken with the mongodb crate 3.9.1,
//! PyMongo 4.20 and the Node driver 7.9 against the same kinds of servers.

use std::fmt::Display;

const THEIRS: [(&str, &str); 11] = [
    (
        "D1",
        "next() after an unwatched election: Rust 30.0 s, PyMongo 30.2 s, Node 60.0 s",
    ),
    (
        "D2",
        "events lost by cancelled next() in a session: Rust 42 of 60",
    ),
    (
        "D3",
        "resume_token() after a cancelled next(): Rust panics; PyMongo's stream is closed for good",
    ),
    (
        "D4",
        "a malformed element: Rust resumes endlessly, 3,440 aggregates in 3 s, no error",
    ),
    (
        "D5",
        "every getMore fails resumably: 1,650 to 1,900 aggregates a second, for ever",
    ),
    (
        "D6",
        "a dropped stream on a secondary: Rust kills its cursor on the primary",
    ),
    (
        "D7",
        "the token behind the last event of a batch: Rust has the event's _id",
    ),
    (
        "D8",
        "a comment on watch: Rust gets the server's error 40415",
    ),
    ("D9", "an event without _id: Rust reports it, but goes on"),
    (
        "D10",
        "undefined flag bits, a wrong checksum, a wrong responseTo: Rust accepts all three, and inflates without a cap",
    ),
    (
        "D11",
        "reading ahead, whole batches, split events joined, checkpoints: none has any",
    ),
];

/// Prints what was found here beside what the drivers do.
///
/// # Panics
/// When there is no such defect.
#[allow(
    clippy::print_stdout,
    reason = "the figures are for whoever runs the test"
)]
pub fn beside(defect: &str, ours: impl Display) {
    let theirs = THEIRS.iter().find(|(name, _)| *name == defect);
    let (_, theirs) = theirs.expect("a defect of the list");
    println!("{defect}: {ours} (quoted: {theirs})");
}
