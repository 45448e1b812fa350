//! mongo-wire.
