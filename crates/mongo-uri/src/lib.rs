//! mongo-uri.
