use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, JavaScriptCodeWithScope, Regex, Timestamp, doc};

use super::*;

struct Entities;

impl Lookup for Entities {
    fn value(&self, name: &str) -> Option<Bson> {
        (name == "entity").then(|| doc! { "x": 1 }.into())
    }

    fn lsid(&self, name: &str) -> Option<Bson> {
        (name == "session").then(|| doc! { "id": "lsid" }.into())
    }
}

/// Whether a document matches one under the key `v`, so that values can be missing.
fn matches(expected: &Document, actual: &Document) -> bool {
    Matcher::new(&Entities)
        .root_document(expected, actual)
        .is_ok()
}

fn bytes(bytes: &[u8]) -> Document {
    let (subtype, bytes) = (BinarySubtype::Generic, bytes.to_vec());
    doc! { "v": Binary { subtype, bytes } }
}

#[test]
fn values_match_by_the_table() {
    let table = [
        (doc! { "v": 1 }, doc! { "v": 1_i64 }, true),
        (doc! { "v": 1 }, doc! { "v": 1.0 }, true),
        (doc! { "v": 1 }, doc! { "v": 1.5 }, false),
        (doc! { "v": 1 }, doc! { "v": "1" }, false),
        (doc! { "v": 1 }, doc! { "v": true }, false),
        (doc! { "v": i64::MAX }, doc! { "v": i64::MAX - 1 }, false),
        (doc! { "v": Bson::Null }, doc! { "v": Bson::Null }, true),
        (doc! { "v": Bson::Null }, doc! {}, false),
        // Keys beyond those expected: at the root, and nowhere else.
        (doc! { "v": 1 }, doc! { "v": 1, "w": 2 }, true),
        (
            doc! { "v": { "x": 1 } },
            doc! { "v": { "x": 1, "y": 1 } },
            false,
        ),
        (
            doc! { "v": { "x": 1, "y": 1 } },
            doc! { "v": { "x": 1 } },
            false,
        ),
        (
            doc! { "v": [{ "x": 1 }] },
            doc! { "v": [{ "x": 1, "y": 1 }] },
            false,
        ),
        (
            doc! { "v": { "x": 1, "y": 2 } },
            doc! { "v": { "y": 2, "x": 1 } },
            true,
        ),
        (doc! { "v": [1, 2] }, doc! { "v": [1, 2] }, true),
        (doc! { "v": [1, 2] }, doc! { "v": [2, 1] }, false),
        (doc! { "v": [1, 2] }, doc! { "v": [1, 2, 3] }, false),
        (doc! { "v": [] }, doc! { "v": {} }, false),
        (doc! { "v": {} }, doc! { "v": 1 }, false),
    ];
    for (expected, actual, result) in table {
        assert_eq!(matches(&expected, &actual), result, "{expected} {actual}");
    }
}

#[test]
fn operators_match_by_the_table() {
    let table = [
        (doc! { "$$exists": true }, doc! { "v": Bson::Null }, true),
        (doc! { "$$exists": true }, doc! {}, false),
        (doc! { "$$exists": false }, doc! {}, true),
        (doc! { "$$exists": false }, doc! { "v": 1 }, false),
        (doc! { "$$exists": 1 }, doc! { "v": 1 }, false),
        (doc! { "$$unsetOrMatches": 1 }, doc! {}, true),
        (doc! { "$$unsetOrMatches": 1 }, doc! { "v": 1 }, true),
        (doc! { "$$unsetOrMatches": 1 }, doc! { "v": 2 }, false),
        (
            doc! { "$$unsetOrMatches": { "x": { "$$exists": true } } },
            doc! { "v": { "x": 1 } },
            true,
        ),
        (
            doc! { "$$unsetOrMatches": { "x": 1 } },
            doc! { "v": { "x": 1, "y": 1 } },
            false,
        ),
        (doc! { "$$type": "int" }, doc! {}, false),
        (
            doc! { "$$type": ["int", "long"] },
            doc! { "v": 1_i64 },
            true,
        ),
        (doc! { "$$type": "number" }, doc! { "v": 1.5 }, true),
        (doc! { "$$type": "number" }, doc! { "v": "1" }, false),
        (doc! { "$$type": 1 }, doc! { "v": 1.5 }, false),
        (
            doc! { "$$matchesEntity": "entity" },
            doc! { "v": { "x": 1 } },
            true,
        ),
        (
            doc! { "$$matchesEntity": "entity" },
            doc! { "v": { "x": 2 } },
            false,
        ),
        (
            doc! { "$$matchesEntity": "entity" },
            doc! { "v": { "x": 1, "y": 1 } },
            false,
        ),
        (
            doc! { "$$matchesEntity": "other" },
            doc! { "v": { "x": 1 } },
            false,
        ),
        (
            doc! { "$$sessionLsid": "session" },
            doc! { "v": { "id": "lsid" } },
            true,
        ),
        (
            doc! { "$$sessionLsid": "session" },
            doc! { "v": { "id": "other" } },
            false,
        ),
        (
            doc! { "$$sessionLsid": "entity" },
            doc! { "v": { "id": "lsid" } },
            false,
        ),
        (doc! { "$$matchesHexBytes": "00ff" }, bytes(&[0, 255]), true),
        (doc! { "$$matchesHexBytes": "" }, bytes(&[]), true),
        (doc! { "$$matchesHexBytes": "00" }, bytes(&[0, 255]), false),
        (doc! { "$$matchesHexBytes": "00f" }, bytes(&[0]), false),
        (doc! { "$$matchesHexBytes": "61" }, doc! { "v": "a" }, false),
        (doc! { "$$lte": 5 }, doc! { "v": 5.0 }, true),
        (doc! { "$$lte": 5 }, doc! { "v": 5.1 }, false),
        (doc! { "$$lte": 5 }, doc! { "v": "4" }, false),
        (doc! { "$$lte": 5 }, doc! {}, false),
        (
            doc! { "$$matchAsDocument": { "x": 1 } },
            doc! { "v": r#"{"x": {"$numberLong": "1"}}"# },
            true,
        ),
        (
            doc! { "$$matchAsDocument": { "x": 1 } },
            doc! { "v": r#"{"x": 1, "y": 1}"# },
            false,
        ),
        (
            doc! { "$$matchAsDocument": { "$$matchAsRoot": { "x": 1 } } },
            doc! { "v": r#"{"x": 1, "y": 1}"# },
            true,
        ),
        (
            doc! { "$$matchAsDocument": { "$$matchAsRoot": { "x": { "y": 1 } } } },
            doc! { "v": r#"{"x": {"y": 1, "z": 1}}"# },
            false,
        ),
        (doc! { "$$matchAsDocument": {} }, doc! { "v": "1" }, false),
        (doc! { "$$matchAsDocument": {} }, doc! { "v": "[1]" }, false),
        (doc! { "$$matchAsDocument": {} }, doc! { "v": "{" }, false),
        (doc! { "$$matchAsDocument": {} }, doc! {}, false),
        (
            doc! { "$$matchAsRoot": { "x": 1 } },
            doc! { "v": { "x": 1, "y": 1 } },
            true,
        ),
        (
            doc! { "$$matchAsRoot": { "x": 2 } },
            doc! { "v": { "x": 1, "y": 1 } },
            false,
        ),
        (doc! { "$$unknown": 1 }, doc! { "v": 1 }, false),
        // Not the only key, so no operator.
        (doc! { "$$exists": true, "x": 1 }, doc! { "v": 1 }, false),
    ];
    for (operator, actual, result) in table {
        let expected = doc! { "v": operator };
        assert_eq!(matches(&expected, &actual), result, "{expected} {actual}");
    }
}

#[test]
fn a_root_stays_a_root_below_an_operator() {
    let matcher = Matcher::new(&Entities);
    let actual = Bson::from(doc! { "x": 1, "y": 1 });
    for operator in ["$$unsetOrMatches", "$$matchAsRoot"] {
        let expected = Bson::from(doc! { operator: { "x": 1 } });
        assert_eq!(matcher.root(&expected, Some(&actual)), Ok(()));
    }
    let entity = Bson::from(doc! { "$$matchesEntity": "entity" });
    assert_eq!(matcher.root(&entity, Some(&actual)), Ok(()));
    assert!(matcher.root(&doc! { "x": 1 }.into(), None).is_err());
}

#[test]
fn each_document_of_an_iterable_is_a_root() {
    let matcher = Matcher::new(&Entities);
    let actual = [doc! { "x": 1, "y": 1 }.into(), doc! { "x": 2 }.into()];
    let expected = |elements: Vec<Document>| Bson::from(elements);
    let both = expected(vec![doc! { "x": 1 }, doc! { "x": 2 }]);
    assert_eq!(matcher.roots(&both, &actual), Ok(()));
    assert!(
        matcher
            .roots(&expected(vec![doc! { "x": 1 }]), &actual)
            .is_err()
    );
    assert_eq!(
        matcher.roots(&doc! { "$$type": "array" }.into(), &actual),
        Ok(())
    );
    // As a plain value, the same documents are none.
    assert!(matcher.root(&both, Some(&actual.to_vec().into())).is_err());
}

#[test]
fn a_difference_tells_where_it_is() {
    let matcher = Matcher::new(&Entities);
    let expected = doc! { "a": [{ "b": 1 }] };
    let error = matcher.root_document(&expected, &doc! { "a": [{ "b": 2 }] });
    assert_eq!(error.unwrap_err().to_string(), "a[0].b: expected 1, got 2");
}

#[test]
fn documents_within_other_types_are_compared_in_any_order_of_keys() {
    let code = |scope: Document| JavaScriptCodeWithScope {
        code: "f".to_owned(),
        scope,
    };
    let expected = doc! { "v": code(doc! { "x": 1, "y": 2 }) };
    assert!(matches(
        &expected,
        &doc! { "v": code(doc! { "y": 2, "x": 1 }) }
    ));
    assert!(!matches(&expected, &doc! { "v": code(doc! { "x": 1 }) }));
}

#[test]
fn every_type_has_the_name_that_queries_use() {
    let values: [(Bson, &str); 13] = [
        (1.0.into(), "double"),
        ("".into(), "string"),
        (doc! {}.into(), "object"),
        (Bson::Array(Vec::new()), "array"),
        (
            Binary {
                subtype: BinarySubtype::Generic,
                bytes: Vec::new(),
            }
            .into(),
            "binData",
        ),
        (ObjectId::new().into(), "objectId"),
        (true.into(), "bool"),
        (DateTime::MIN.into(), "date"),
        (Bson::Null, "null"),
        (
            Bson::RegularExpression(Regex {
                pattern: bson::cstr!("").to_owned(),
                options: bson::cstr!("").to_owned(),
            }),
            "regex",
        ),
        (1.into(), "int"),
        (
            Bson::Timestamp(Timestamp {
                time: 1,
                increment: 1,
            }),
            "timestamp",
        ),
        (1_i64.into(), "long"),
    ];
    for (value, name) in values {
        assert!(matches(
            &doc! { "v": { "$$type": name } },
            &doc! { "v": value.clone() }
        ));
        assert!(!matches(
            &doc! { "v": { "$$type": "minKey" } },
            &doc! { "v": value }
        ));
    }
}
