use super::*;
use crate::testing::hex;

/// Every BSON type once, with its value's bytes.
const TYPES: [(u8, &str); 22] = [
    (0x01, "000000000000f03f"),
    (0x02, "02000000 6100"),
    (0x03, "05000000 00"),
    (0x04, "05000000 00"),
    (0x05, "02000000 00 0102"),
    (0x06, ""),
    (0x07, "000102030405060708090a0b"),
    (0x08, "01"),
    (0x09, "0000000000000000"),
    (0x0a, ""),
    (0x0b, "6100 6900"),
    (0x0c, "02000000 6100 000102030405060708090a0b"),
    (0x0d, "02000000 6100"),
    (0x0e, "02000000 6100"),
    (0x0f, "0f000000 02000000 6100 05000000 00"),
    (0x10, "01000000"),
    (0x11, "0100000002000000"),
    (0x12, "0100000000000000"),
    (0x13, "00000000000000000000000000000000"),
    (0x7f, ""),
    (0xff, ""),
    (0x02, "01000000 00"),
];

fn document(elements: &[u8]) -> Vec<u8> {
    let len = u32::try_from(elements.len() + 5).unwrap();
    [&len.to_le_bytes()[..], elements, &[0]].concat()
}

fn element(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, b'k', 0][..], value].concat()
}

#[test]
fn every_type_is_stepped_over() {
    for (kind, value) in TYPES {
        let value = hex(value);
        let bytes = document(&[element(kind, &value), element(0x08, &[1])].concat());
        let walked: Result<Vec<_>, _> = Elements::new(&bytes).collect();
        let walked = walked.unwrap();
        assert_eq!(walked.len(), 2, "type {kind:#04x}");
        assert_eq!((walked[0].kind, walked[0].value), (kind, &value[..]));
        assert_eq!((walked[0].key, walked[0].offset), (&b"k"[..], 7));
    }
}

#[test]
fn every_cut_of_every_value_is_a_fault() {
    for (kind, value) in TYPES {
        let value = hex(value);
        for kept in 0..value.len() {
            let bytes = document(&element(kind, &value[..kept]));
            let walked: Result<Vec<_>, _> = Elements::new(&bytes).collect();
            let fault = walked.expect_err("a cut value");
            assert_eq!(fault.offset, 7, "type {kind:#04x} cut to {kept}");
        }
    }
}

#[test]
fn faults_tell_what_stood_there() {
    let value_length = |minimum, left, found| Defect::ValueLength {
        minimum,
        left,
        found,
    };
    let key = Field::ElementKey;
    let table = [
        (
            "unknown type",
            "20 6b00",
            4,
            Defect::ElementType { found: 0x20 },
        ),
        (
            "end before the end",
            "00 6b00",
            4,
            Defect::ElementType { found: 0 },
        ),
        (
            "key without an end",
            "10 6b6b",
            5,
            Defect::Unterminated {
                expected: key,
                left: 2,
            },
        ),
        (
            "string of no length",
            "02 6b00 00000000",
            7,
            value_length(1, 0, 0),
        ),
        (
            "negative binary",
            "05 6b00 ffffffff 00",
            7,
            value_length(0, 0, -1),
        ),
        (
            "document of four bytes",
            "03 6b00 04000000 00",
            7,
            value_length(5, 5, 4),
        ),
        (
            "document without its zero",
            "03 6b00 05000000 01",
            7,
            Defect::DocumentEnd { found: 1 },
        ),
    ];
    for (name, elements, offset, defect) in table {
        let bytes = document(&hex(elements));
        let walked: Result<Vec<_>, _> = Elements::new(&bytes).collect();
        assert_eq!(walked.map(drop), Err(Fault { offset, defect }), "{name}");
    }
}

#[test]
fn first_of_equal_keys_is_found() {
    let bytes = document(&hex("08 6100 00  10 6b00 01000000  10 6b00 02000000"));
    let found = find(&bytes, "k").unwrap().unwrap();
    assert_eq!((found.kind, found.value[0]), (INT32, 1));
    assert!(find(&bytes, "b").unwrap().is_none());
}

#[test]
fn fault_behind_the_wanted_key_is_not_looked_at() {
    let bytes = document(&hex("08 6b00 01  20 6200"));
    assert!(find(&bytes, "k").unwrap().is_some());
    assert!(find(&bytes, "missing").is_err());
}

#[test]
fn first_zero_is_found_wherever_it_stands() {
    for len in 0..20 {
        for place in 0..len {
            // 0x80 and 0x01 are what a trick with whole words gets wrong if it gets any wrong.
            for other in [0x01, 0x80, 0xff] {
                let mut bytes = vec![other; len];
                bytes[place] = 0;
                assert_eq!(zero_at(&bytes), Some(place));
                bytes[len - 1] = 0;
                assert_eq!(zero_at(&bytes), Some(place));
            }
        }
        assert_eq!(zero_at(&vec![0x80; len]), None);
    }
}
