//! The reply reader: every question about any document has an answer or an error within it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mongo_wire::{Batch, CommandReply, Document, ReplyError};

/// The input as the elements of a document, so that every input is one.
fn document(elements: &[u8]) -> Document {
    let len = u32::try_from(elements.len() + 5).expect("inputs are short");
    let bytes = [&len.to_le_bytes()[..], elements, &[0]].concat();
    Document::from_bytes(bytes).expect("length and closing zero are right")
}

fn check(error: &ReplyError, reply: &CommandReply) {
    assert!(!error.to_string().is_empty());
    if let ReplyError::Malformed { offset, .. } | ReplyError::WrongType { offset, .. } = error {
        assert!(*offset <= reply.document().len(), "{error}");
    }
}

fn iterate(batch: &Batch, reply: &CommandReply) {
    let views: Vec<_> = batch.iter().collect();
    let slices: Vec<_> = batch.documents().collect();
    assert_eq!(views.len(), slices.len());
    for (at, (view, slice)) in views.iter().zip(&slices).enumerate() {
        match (view, slice) {
            (Ok(view), Ok(slice)) => {
                assert_eq!(view.as_bytes(), slice.as_bytes());
                assert!(
                    reply.document().share(view).is_some(),
                    "a slice of the reply"
                );
            }
            (Err(one), Err(two)) => {
                assert_eq!(one, two);
                assert_eq!(at + 1, views.len(), "an error ends the iteration");
                check(one, reply);
            }
            _ => panic!("both iterators read the same"),
        }
    }
    assert!(batch.offset() + batch.bytes_len() <= reply.document().len());
    if batch.is_empty() {
        assert!(views.is_empty());
    }
    assert!(!format!("{batch:?} {:?}", batch.documents()).is_empty());
}

fuzz_target!(|elements: &[u8]| {
    let reply = CommandReply::new(document(elements));
    let _ = (
        reply.operation_time(),
        reply.cluster_time(),
        reply.document().first_key(),
    );
    let ok = reply.is_ok();
    match reply.server_error() {
        Ok(Some(error)) => assert!(!error.to_string().is_empty() && !error.has_label("none")),
        Ok(None) => assert_eq!(ok, Ok(true)),
        Err(error) => check(&error, &reply),
    }
    if let Err(error) = &ok {
        check(error, &reply);
    }
    match reply.write_concern_error() {
        Ok(_) => {}
        Err(error) => check(&error, &reply),
    }
    match reply.cursor() {
        Ok(cursor) => {
            iterate(&cursor.batch, &reply);
            let token = cursor.post_batch_resume_token.as_ref();
            assert!(token.is_none_or(|token| token.len() < reply.document().len()));
        }
        Err(error) => check(&error, &reply),
    }
});
