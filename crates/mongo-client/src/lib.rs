//! mongo-client.
