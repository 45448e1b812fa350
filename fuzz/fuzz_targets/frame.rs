//! Frames: any bytes are cut the same way however they arrive, and come out as they went in.
#![no_main]

use bytes::BytesMut;
use fuzz::limits;
use libfuzzer_sys::fuzz_target;
use mongo_wire::{DecodeError, Frame, Header, bytes_wanted};

/// What a stream holds: its frames, how it ended, and what was left over.
type Cut = (Vec<Frame>, Option<DecodeError>, BytesMut);

fn take(src: &mut BytesMut, frames: &mut Vec<Frame>) -> Option<DecodeError> {
    loop {
        let (before, wanted) = (src.len(), bytes_wanted(src, &limits()));
        match Frame::decode(src, &limits()) {
            Ok(Some(frame)) => {
                assert_eq!(wanted, Ok(0));
                assert_eq!(before - src.len(), frame.len());
                frames.push(frame);
            }
            Ok(None) => {
                assert!(wanted.is_ok_and(|wanted| wanted > 0));
                assert_eq!(src.len(), before, "an unfinished frame stays where it is");
                return None;
            }
            Err(error) => {
                assert_eq!(wanted, Err(error.clone()));
                return Some(error);
            }
        }
    }
}

fn cut(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Cut {
    let (mut src, mut frames) = (BytesMut::new(), Vec::new());
    let mut error = None;
    for piece in pieces {
        src.extend_from_slice(piece.as_ref());
        error = error.or_else(|| take(&mut src, &mut frames));
    }
    (frames, error, src)
}

fuzz_target!(|data: &[u8]| {
    let (frames, error, rest) = cut([data]);
    let size = data.first().map_or(1, |byte| usize::from(*byte) % 37 + 1);
    assert_eq!(
        cut(data.chunks(size)),
        (frames.clone(), error.clone(), rest.clone())
    );

    let mut written = BytesMut::new();
    for frame in &frames {
        frame
            .encode(&mut written, &limits())
            .expect("it was within the limits");
        let header: [u8; Header::LEN] = frame.header.to_bytes();
        assert_eq!(Header::parse(&header, &limits()), Ok(frame.header));
        assert!(!format!("{frame:?}").is_empty());
    }
    written.extend_from_slice(&rest);
    assert_eq!(written, data);
    assert!(
        error.is_none_or(|error| error.offset() < Header::LEN && !error.to_string().is_empty())
    );
});
