//! The memory that messages are read into.

use bytes::BytesMut;

/// Bytes asked of the socket when the next message's length is not known yet.
const READ_CHUNK: usize = 16 * 1024;

/// With less room than that, another buffer is begun.
const LEAST_ROOM: usize = 1024;

/// Buffers of earlier messages that are kept to be used again: as many as a stream has under way
/// that reads ahead by a batch.
const KEPT: usize = 3;

/// A large message lands in one buffer, which its documents then share; small ones share a buffer
/// with others.
///
/// New memory is dear, as the system clears each page of it. So the buffers of messages that nobody
/// holds any more are read into again, until the messages become much smaller.
#[derive(Default)]
pub(super) struct ReceiveBuffer {
    /// What was received and not been taken yet.
    pub(super) bytes: BytesMut,
    /// Of the buffer that `bytes` is the rest of.
    size: usize,
    /// The rests of earlier ones with their sizes, the oldest first; messages may still share them.
    earlier: Vec<(usize, BytesMut)>,
}

impl ReceiveBuffer {
    /// Makes room for so many bytes more, if not for a good piece of the next messages.
    pub(super) fn make_room(&mut self, wanted: usize) {
        if self.bytes.capacity() - self.bytes.len() >= wanted.max(LEAST_ROOM) {
            return;
        }
        let more = wanted.max(READ_CHUNK);
        let needed = self.bytes.len() + more;
        if is_fitting(self.size, needed) && self.bytes.try_reclaim(more) {
            return;
        }
        let free = self
            .earlier
            .iter_mut()
            .position(|(size, rest)| is_fitting(*size, needed) && rest.try_reclaim(needed));
        let (size, mut next) = match free {
            Some(free) => self.earlier.remove(free),
            None => (needed, BytesMut::with_capacity(needed)),
        };
        next.extend_from_slice(&self.bytes);
        let mut rest = std::mem::replace(&mut self.bytes, next);
        let size = std::mem::replace(&mut self.size, size);
        if size > READ_CHUNK {
            if self.earlier.len() == KEPT {
                self.earlier.remove(0);
            }
            rest.clear();
            self.earlier.push((size, rest));
        }
    }

    /// A message of this length was taken: what is much larger has served its time.
    pub(super) fn passed(&mut self, len: usize) {
        let len = len.max(READ_CHUNK);
        if self
            .earlier
            .first()
            .is_some_and(|(size, _)| !is_fitting(*size, len))
        {
            self.earlier.remove(0);
        }
    }
}

/// Whether a buffer is large enough, and not so large that what shares it would hold on to far more
/// memory than it needs.
fn is_fitting(size: usize, needed: usize) -> bool {
    (needed..=needed.saturating_mul(4)).contains(&size)
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};

    use super::*;

    /// A message of so many equal bytes, received as a connection does.
    fn receive(buffer: &mut ReceiveBuffer, byte: u8, len: usize) -> Bytes {
        buffer.make_room(16);
        buffer.bytes.put_bytes(byte, 16);
        buffer.make_room(len - 16);
        buffer.bytes.put_bytes(byte, len - 16);
        let message = buffer.bytes.split_to(len).freeze();
        buffer.passed(len);
        message
    }

    #[test]
    fn memory_that_nobody_holds_is_read_into_again() {
        let mut buffer = ReceiveBuffer::default();
        let mut places = std::collections::BTreeSet::new();
        let mut held = std::collections::VecDeque::new();
        for turn in 0..100 {
            let message = receive(&mut buffer, turn, 600_000 - usize::from(turn));
            places.insert(message.as_ptr());
            held.push_back((turn, message));
            // One is being read, and one waits.
            if held.len() > 2 {
                held.pop_front();
            }
            for (byte, message) in &held {
                assert!(message.iter().all(|found| found == byte));
            }
        }
        assert!(places.len() <= 4, "{} buffers", places.len());
    }

    #[test]
    fn what_is_held_is_never_written_to() {
        let mut buffer = ReceiveBuffer::default();
        let held: Vec<_> = (0..20)
            .map(|turn| receive(&mut buffer, turn, 100_000))
            .collect();
        for (turn, message) in (0..).zip(&held) {
            assert!(message.iter().all(|byte| *byte == turn));
        }
    }

    #[test]
    fn small_messages_let_the_memory_of_large_ones_go() {
        let mut buffer = ReceiveBuffer::default();
        drop([1, 2, 3].map(|turn| receive(&mut buffer, turn, 5_000_000)));
        let sizes = |buffer: &ReceiveBuffer| {
            let earlier = buffer.earlier.iter().map(|(size, _)| size);
            buffer.size + earlier.sum::<usize>()
        };
        assert!(sizes(&buffer) > 5_000_000);
        for turn in 0..5 {
            receive(&mut buffer, turn, 200);
        }
        assert!(sizes(&buffer) <= READ_CHUNK + 16, "{}", sizes(&buffer));
    }
}
