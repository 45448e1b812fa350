use super::*;
use crate::testing::hex;

/// A document around elements.
fn around(elements: &[u8]) -> Vec<u8> {
    let len = u32::try_from(elements.len() + 5).unwrap();
    [&len.to_le_bytes()[..], elements, &[0]].concat()
}

fn reply(elements: &str) -> CommandReply {
    CommandReply::new(Document::from_bytes(around(&hex(elements))).unwrap())
}

/// `cursor: {<batch key>: [...], ...}` with the array's elements given, then the rest.
fn cursor_reply(array: &[u8], rest: &str) -> CommandReply {
    let batch = [&b"\x04nextBatch\0"[..], &around(array), &hex(rest)].concat();
    let body = [
        &b"\x03cursor\0"[..],
        &around(&batch),
        b"\x01ok\0\0\0\0\0\0\0\xf0\x3f",
    ]
    .concat();
    CommandReply::new(Document::from_bytes(around(&body)).unwrap())
}

/// Offset of the array within [`cursor_reply`].
const ARRAY: usize = 4 + 8 + 4 + 11;
/// `id: 5, ns: "d.c"`
const ID_AND_NS: &str = "12 696400 0500000000000000  02 6e7300 04000000 642e6300";
/// `ok: 0.0`
const NOT_OK: &str = "01 6f6b00 0000000000000000";

#[test]
fn ok_is_any_number_but_zero_or_true() {
    let table = [
        ("01 6f6b00 000000000000f03f", Ok(true)),
        (NOT_OK, Ok(false)),
        ("10 6f6b00 01000000", Ok(true)),
        ("10 6f6b00 00000000", Ok(false)),
        ("12 6f6b00 0100000000000000", Ok(true)),
        ("08 6f6b00 01", Ok(true)),
        ("08 6f6b00 00", Ok(false)),
        ("", Err(ReplyError::Missing { field: "ok" })),
        (
            "0a 6f6b00",
            Err(ReplyError::WrongType {
                offset: 8,
                field: "ok",
                expected: "a number",
                found: 0x0a,
            }),
        ),
    ];
    for (elements, expected) in table {
        assert_eq!(reply(elements).is_ok(), expected, "{elements}");
    }
}

#[test]
fn server_error_carries_code_name_message_and_labels() {
    let failed = reply(&format!(
        "{NOT_OK} 02 6572726d736700 (errmsg) 05000000 6f6f707300
         10 636f646500 (code) 6b000000  02 636f64654e616d6500 (codeName) 02000000 4100
         04 6572726f724c6162656c7300 (errorLabels)
         17000000 02 3000 02000000 5800 02 3100 02000000 5900 00"
    ));
    let error = failed.server_error().unwrap().unwrap();
    assert_eq!(
        (error.code, error.code_name.as_deref()),
        (Some(107), Some("A"))
    );
    assert_eq!(
        (&*error.message, &error.labels[..]),
        ("oops", &["X".into(), "Y".into()][..])
    );
    assert_eq!(&error.reply, failed.document());
    assert!(error.has_label("X") && !error.has_label("Z"));
    assert_eq!(error.to_string(), "server error 107 (A): oops");
}

#[test]
fn error_is_told_even_when_its_fields_are_odd() {
    let odd = format!("{NOT_OK} 02 636f646500 01000000 00  10 6572726d736700 01000000");
    let error = reply(&odd).server_error().unwrap().unwrap();
    assert_eq!(
        (error.code, error.message.is_empty(), error.labels.len()),
        (None, true, 0)
    );
    assert_eq!(error.to_string(), "server error: no message");
}

#[test]
fn old_query_failure_is_an_error() {
    let failed = reply("02 2465727200 ($err) 05000000 6f6f707300 10 636f646500 0d000000");
    let error = failed.server_error().unwrap().unwrap();
    assert_eq!((&*error.message, error.code), ("oops", Some(13)));
}

#[test]
fn success_has_no_server_error() {
    assert_eq!(reply("01 6f6b00 000000000000f03f").server_error(), Ok(None));
}

#[test]
fn write_concern_error_takes_the_labels_of_the_reply() {
    let done = reply(
        "03 7772697465436f6e6365726e4572726f7200 (writeConcernError)
         0f000000 10 636f646500 40000000 00
         04 6572726f724c6162656c7300 0e000000 02 3000 02000000 5800 00
         01 6f6b00 000000000000f03f",
    );
    assert_eq!(done.server_error(), Ok(None));
    let error = done.write_concern_error().unwrap().unwrap();
    assert_eq!((error.code, error.has_label("X")), (Some(64), true));
    assert_eq!(reply("").write_concern_error(), Ok(None));
}

#[test]
fn cursor_is_read_without_copying() {
    let array = hex("03 3000 05000000 00  03 3100 05000000 00");
    let token = "03 706f73744261746368526573756d65546f6b656e00 05000000 00";
    let reply = cursor_reply(&array, &format!("{token} {ID_AND_NS}"));
    let cursor = reply.cursor().unwrap();
    assert_eq!((cursor.id, cursor.namespace.as_str()), (5, "d.c"));
    assert_eq!(cursor.post_batch_resume_token, Some(Document::empty()));
    assert_eq!(
        (cursor.batch.bytes_len(), cursor.batch.offset()),
        (array.len() + 5, ARRAY)
    );
    let whole = reply.document().as_bytes().as_ptr_range();
    for document in cursor.batch.documents() {
        let bytes = document.unwrap().into_bytes();
        assert!(whole.contains(&bytes.as_ptr()), "a slice of the reply");
    }
}

#[test]
fn cursor_fields_that_are_missing_or_odd_are_told() {
    let ok = "01 6f6b00 000000000000f03f";
    let ns = "02 6e7300 04000000 642e6300";
    let batch = "04 6669727374426174636800 (firstBatch) 05000000 00";
    let missing = |field| ReplyError::Missing { field };
    let wrong = |offset, field, expected, found| ReplyError::WrongType {
        offset,
        field,
        expected,
        found,
    };
    let table = [
        (
            format!("12 696400 0000000000000000 {ns}"),
            missing("cursor batch"),
        ),
        (format!("{batch} {ns}"), missing("cursor.id")),
        (
            format!("{batch} 12 696400 0000000000000000"),
            missing("cursor.ns"),
        ),
        (
            format!("02 696400 02000000 6100 {batch}"),
            wrong(20, "cursor.id", "int64", 2),
        ),
        (
            "10 6e7300 01000000".to_owned(),
            wrong(20, "cursor.ns", "a string", 0x10),
        ),
        (
            "03 6e657874426174636800 05000000 00".to_owned(),
            wrong(27, "cursor batch", "an array", 3),
        ),
    ];
    for (cursor, error) in table {
        let inner = around(&hex(&cursor));
        let body = [&b"\x03cursor\0"[..], &inner, &hex(ok)].concat();
        let reply = CommandReply::new(Document::from_bytes(around(&body)).unwrap());
        assert_eq!(reply.cursor(), Err(error), "{cursor}");
    }
    assert_eq!(reply(ok).cursor(), Err(missing("cursor")));
    let error = wrong(12, "cursor", "a document", 0x0a);
    assert_eq!(reply("0a 637572736f7200").cursor(), Err(error));
}

#[test]
fn malformed_batch_element_is_told_when_it_is_reached() {
    let good = "03 3000 05000000 00  03 3100 05000000 00";
    let key = Field::ElementKey;
    let length = Field::DocumentLength;
    let table = [
        ("10 3200 01000000", 16, Defect::BatchElement { found: 0x10 }),
        ("00 3200", 16, Defect::BatchElement { found: 0 }),
        (
            "03 3232",
            17,
            Defect::Unterminated {
                expected: key,
                left: 2,
            },
        ),
        (
            "03 3200 050000",
            19,
            Defect::Truncated {
                expected: length,
                left: 3,
            },
        ),
        (
            "03 3200 06000000 00",
            19,
            Defect::DocumentLength { left: 5, found: 6 },
        ),
        (
            "03 3200 04000000 00",
            19,
            Defect::DocumentLength { left: 5, found: 4 },
        ),
        (
            "03 3200 ffffffff 00",
            19,
            Defect::DocumentLength { left: 5, found: -1 },
        ),
        ("03 3200 05000000 09", 23, Defect::DocumentEnd { found: 9 }),
    ];
    for (bad, offset, defect) in table {
        // Offsets in the table count from the array's elements.
        let offset = ARRAY + 4 + offset;
        let array = hex(&format!("{good} {bad}"));
        let cursor = cursor_reply(&array, ID_AND_NS).cursor().unwrap();
        let documents: Vec<_> = cursor.batch.documents().collect();
        let error = ReplyError::Malformed { offset, defect };
        let empty = || Ok(Document::empty());
        assert_eq!(documents, [empty(), empty(), Err(error)], "{bad}");
        #[cfg(feature = "bson")]
        {
            let views: Vec<_> = cursor
                .batch
                .iter()
                .map(|view| view.map(Document::from))
                .collect();
            assert_eq!(views, documents, "{bad}");
        }
    }
}

#[test]
fn questions_do_not_read_beyond_their_answer() {
    let broken_after_ok = reply("10 6f6b00 01000000  20 6200");
    assert_eq!(broken_after_ok.is_ok(), Ok(true));
    let malformed = ReplyError::Malformed {
        offset: 12,
        defect: Defect::ElementType { found: 0x20 },
    };
    assert_eq!(broken_after_ok.cursor(), Err(malformed));
}

#[test]
fn cluster_time_and_operation_time_are_read_if_they_can_be() {
    let gossip = reply(
        "11 6f7065726174696f6e54696d6500 (operationTime) 02000000 01000000
         03 24636c757374657254696d6500 ($clusterTime) 05000000 00",
    );
    assert_eq!(gossip.cluster_time(), Some(Document::empty()));
    #[cfg(feature = "bson")]
    {
        let time = bson::Timestamp {
            time: 1,
            increment: 2,
        };
        assert_eq!(gossip.operation_time(), Some(time));
        assert_eq!(
            reply("10 6f7065726174696f6e54696d6500 00000000").operation_time(),
            None
        );
    }
    assert_eq!(reply("20 6200").cluster_time(), None);
}
