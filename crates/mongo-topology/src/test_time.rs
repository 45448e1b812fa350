//! Where virtual time begins in tests. There is no other way to get an `Instant`.

use std::time::Instant;

#[allow(clippy::disallowed_methods, reason = "tests need some first moment")]
pub(crate) fn start() -> Instant {
    Instant::now()
}
