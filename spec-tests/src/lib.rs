//! Runs the public MongoDB specification tests against the crates of this workspace.
//!
//! A suite is a folder of JSON files; a case is one entry of a file, or the whole file. Suites have
//! path-like names, such as `sdam/rs`, and a name stands for itself and all below it.
//!
//! - [`dir`] finds the files, in either of two layouts.
//! - [`json`] reads them.
//! - [`case`] is one runnable case, and how cases become named tests.
//! - [`pure`] holds the suites that need no server.
//! - [`cmap`] is the suite of connection pools, some of whose cases need a real one.
//! - [`unified`] runs the cases of the unified test format against a deployment.
//!
//! The tests come from the folder that the environment variable `SPEC_TESTS_DIR` names, else from
//! the set that [`testbed::specs::obtain`] fetches. Nothing depends on the number of files, but a
//! suite without a case is a failure.
//!
//! # Adding a suite
//!
//! Give its folder a line in [`dir::FOLDERS`], write a module under `pure/` with a function of type
//! [`case::Loader`], and give it a line in [`pure::SUITES`].

pub mod case;
pub mod cmap;
pub mod dir;
pub mod json;
pub mod pure;
pub mod unified;
