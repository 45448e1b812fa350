//! spec-tests.
