//! What holds for all messages and for all bytes.

use bytes::BytesMut;
use mongo_wire::{
    Breach, CommandReply, DecodeError, Flags, Limits, Message, OpCode, bytes_wanted, decode,
};
use proptest::{collection::vec, prelude::*};

use crate::common::{self, compressors, encoded, limits};

proptest! {
    #[test]
    fn encoding_and_decoding_is_the_identity(message in common::message()) {
        let bytes = encoded(&message);
        let mut src = bytes.clone();
        let decoded = decode(&mut src, &limits()).unwrap().unwrap();
        prop_assert!(src.is_empty());
        prop_assert_eq!(&decoded, &message);
        prop_assert_eq!(encoded(&decoded), bytes);
    }

    #[test]
    fn compressed_messages_come_back_as_they_were(message in common::message()) {
        for compressor in compressors() {
            let mut bytes = BytesMut::new();
            message.encode_compressed(&mut bytes, compressor, &limits()).unwrap();
            prop_assert_eq!(decode(&mut bytes, &limits()), Ok(Some(message.clone())));
            prop_assert!(bytes.is_empty());
        }
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_messages(
        messages in vec(common::message(), 1..5),
        pieces in vec(1..60_usize, 1..20),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(encoded).collect();
        let (mut src, mut decoded, mut fed) = (BytesMut::new(), Vec::new(), 0);
        let mut pieces = pieces.into_iter().cycle();
        while fed < stream.len() {
            let end = stream.len().min(fed + pieces.next().unwrap());
            src.extend_from_slice(&stream[fed..end]);
            fed = end;
            while let Some(message) = decode(&mut src, &limits()).unwrap() {
                decoded.push(message);
            }
            prop_assert!(bytes_wanted(&src, &limits()).unwrap() > 0);
        }
        prop_assert!(src.is_empty());
        prop_assert_eq!(decoded, messages);
    }

    #[test]
    fn wanted_bytes_are_what_a_message_takes(message in common::message(), cut in 0..200_usize) {
        let bytes = encoded(&message);
        let cut = cut.min(bytes.len() - 1);
        let wanted = bytes_wanted(&bytes[..cut], &limits()).unwrap();
        prop_assert!((1..=bytes.len() - cut).contains(&wanted));
        if cut >= 4 {
            prop_assert_eq!(wanted, bytes.len() - cut);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..300)) {
        exercise(&bytes)?;
    }

    #[test]
    fn arbitrary_bodies_are_refused_or_read(bytes in common::arbitrary_frame()) {
        exercise(&bytes)?;
    }

    #[test]
    fn damaged_messages_are_refused_or_read(bytes in common::mutated_message()) {
        exercise(&bytes)?;
    }

    #[test]
    fn damage_under_a_checksum_is_always_noticed(
        message in common::op_msg(),
        place in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let message = message.with_flags(Flags::CHECKSUM_PRESENT);
        let mut bytes = encoded(&message.into());
        // The length and the opcode decide what is read at all, the flags whether it is checked.
        let places: Vec<_> = (4..12).chain(20..bytes.len()).collect();
        let place = places[place.index(places.len())];
        bytes[place] ^= change;
        let error = decode(&mut bytes, &limits()).unwrap_err();
        let noticed =
            matches!(error, DecodeError::Violation { breach: Breach::Checksum { .. }, .. });
        prop_assert!(noticed, "{error}");
    }
}

/// Reads whatever can be read; what is accepted must be written again as it was.
fn exercise(bytes: &[u8]) -> Result<(), TestCaseError> {
    // The header's length may ask for more; that is no reason to skip the rest.
    let limits = Limits {
        max_inflated_len: 1 << 16,
        ..limits()
    };
    let mut src = BytesMut::from(bytes);
    let Ok(Some(message)) = decode(&mut src, &limits) else {
        return Ok(());
    };
    let consumed = bytes.len() - src.len();
    prop_assert!(consumed >= 16);
    if bytes[12..16] != OpCode::OP_COMPRESSED.0.to_le_bytes() {
        prop_assert_eq!(&encoded(&message)[..], &bytes[..consumed]);
    }
    match message {
        Message::Msg(message) => {
            for sequence in message.sequences() {
                read_all(sequence.documents.iter());
            }
            read_reply(&CommandReply::new(message.body().clone()));
        }
        Message::Reply(reply) => {
            for document in &reply.documents {
                read_reply(&CommandReply::new(document.unwrap()));
            }
        }
        _ => {}
    }
    Ok(())
}

/// At most one error, and nothing after it.
fn read_all<T, E>(items: impl Iterator<Item = Result<T, E>>) {
    let results: Vec<_> = items.map(|item| item.is_err()).collect();
    let first = results.iter().position(|error| *error);
    assert!(first.is_none_or(|first| first + 1 == results.len()));
}

fn read_reply(reply: &CommandReply) {
    let _ = (
        reply.is_ok(),
        reply.server_error(),
        reply.write_concern_error(),
    );
    let _ = reply.cluster_time();
    if let Ok(cursor) = reply.cursor() {
        read_all(cursor.batch.documents());
    }
}

proptest! {
    #[test]
    fn damaged_replies_are_refused_or_read(
        documents in vec(common::document(), 0..8),
        mutations in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut array = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let key = index.to_string();
            array.extend([&[3], key.as_bytes(), &[0], document.as_bytes()].concat());
        }
        let batch = [&b"\x04nextBatch\0"[..], &common::around(&array)].concat();
        let rest = b"\x02ns\0\x04\0\0\0d.c\0\x12id\0\0\0\0\0\0\0\0\0";
        let cursor = common::around(&[&batch[..], rest].concat());
        let elements = [&b"\x10ok\0\x01\0\0\0\x03cursor\0"[..], &cursor].concat();
        let mut bytes = common::around(&elements);
        let damaged = !mutations.is_empty();
        for (place, byte) in mutations {
            let place = 4 + place.index(bytes.len() - 5);
            bytes[place] = byte;
        }
        let reply = CommandReply::new(mongo_wire::Document::from_bytes(bytes).unwrap());
        read_reply(&reply);
        if !damaged {
            let batch = reply.cursor().unwrap().batch;
            let read: Vec<_> = batch.documents().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read, documents);
        }
    }
}

#[cfg(feature = "bson")]
proptest! {
    #[test]
    fn body_with_added_elements_is_valid_bson_that_starts_with_the_command(
        command in common::document(),
        added in common::document(),
        database in "[a-z]{0,12}",
    ) {
        use mongo_wire::CommandBody;

        let body = CommandBody::new(&command)
            .string(c"$db", &database)
            .document(c"lsid", &added)
            .int64(c"txnNumber", 7)
            .elements_of(&added)
            .into_document(&limits())
            .unwrap();
        let keys = |document: &mongo_wire::Document| -> Vec<String> {
            let elements = document.as_raw().iter().map(|element| element.unwrap().0.to_string());
            elements.collect()
        };
        let names = ["$db", "lsid", "txnNumber"].map(str::to_owned);
        let expected = [keys(&command), names.to_vec(), keys(&added)].concat();
        prop_assert_eq!(keys(&body), expected);
        if command.first_key().is_some() {
            prop_assert_eq!(body.first_key(), command.first_key());
        }
    }

    #[test]
    fn own_walk_finds_what_the_bson_crate_finds(document in common::document()) {
        for element in document.as_raw() {
            let (key, _) = element.unwrap();
            prop_assert!(document.contains_key(key.as_str()).unwrap());
            let first = document.as_raw().get(key.as_str()).unwrap().unwrap();
            let embedded = document.embedded(key.as_str()).unwrap();
            prop_assert_eq!(embedded.as_ref().map(|one| one.as_raw()), first.as_document());
        }
    }
}
