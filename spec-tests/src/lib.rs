//! Runs the public MongoDB specification tests against the crates of this workspace.
//!
//! A suite is a folder of JSON files; a case is one entry of a file, or the whole file. Suites have
//! path-like names, such as `sdam/rs`, and a name stands for itself and all below it.
//!
//! - [`suites`] names the suites and their folders, [`dir`] finds the files in either layout, [`json`]
//!   reads them.
//! - [`case`] is one case that brings along what it runs against: [`pure`] holds those that need no
//!   server, [`cmap`] those of connection pools.
//! - [`unified`] runs the cases of the unified test format against a deployment; [`failing`] and
//!   [`invalid`] are the suites that a runner has to find wrong.
//! - [`servers`] starts deployments, [`runner`] gives each case the one it asks for.
//! - [`skips`] says what may be skipped, [`report`] what became of each case, [`coverage`] the same for
//!   the page in `docs/`.
//!
//! Nothing depends on the number of files, but a suite without a case is a failure.
//!
//! # Adding a suite
//!
//! Give it a line in [`suites::SUITES`]. Unless it is of the unified test format, write a function
//! of type [`case::Loader`] for it.

pub mod case;
pub mod cmap;
pub mod coverage;
pub mod dir;
pub mod failing;
pub mod invalid;
pub mod json;
pub mod pure;
pub mod report;
pub mod runner;
pub mod servers;
pub mod skips;
pub mod suites;
pub mod unified;
