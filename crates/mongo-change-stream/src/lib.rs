//! mongo-change-stream.
