//! mongo-watch.

fn main() {}
