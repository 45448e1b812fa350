//! What was heard so far, and waiting for more of it.

use std::time::Duration;

use tokio::sync::watch;

/// Something that grows by what listeners hear, such as a list. Cheap to clone; clones are the same
/// one.
#[derive(Debug, Default)]
pub struct Journal<T>(watch::Sender<T>);

// Derived, it would ask for `T: Clone`.
impl<T> Clone for Journal<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Journal<T> {
    /// Adds something, from any thread.
    pub fn write(&self, add: impl FnOnce(&mut T)) {
        self.0.send_modify(add);
    }

    /// All there is. Nothing is added for as long as the answer is held.
    #[must_use]
    pub fn read(&self) -> watch::Ref<'_, T> {
        self.0.borrow()
    }

    /// Waits until what is there suffices; false if it does not within `limit`.
    pub async fn wait(&self, limit: Duration, suffices: impl Fn(&T) -> bool) -> bool {
        let mut changes = self.0.subscribe();
        let waiting = changes.wait_for(|journal| suffices(journal));
        tokio::time::timeout(limit, waiting).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_sees_what_is_added() {
        let journal = Journal::<Vec<u8>>::default();
        let writer = journal.clone();
        let waiting = journal.wait(Duration::from_secs(60), |all| all.len() == 2);
        let (enough, ()) = tokio::join!(waiting, async {
            writer.write(|all| all.push(1));
            writer.write(|all| all.push(2));
        });
        assert!(enough);
        assert_eq!(*journal.read(), [1, 2]);
        let never = |all: &Vec<u8>| all.len() == 3;
        assert!(!journal.wait(Duration::from_millis(1), never).await);
    }
}
