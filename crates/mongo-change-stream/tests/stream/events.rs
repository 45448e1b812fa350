//! Events: raw accessors and the typed struct (rules 11, 12, 43).

use bson::{
    Binary, Bson, DateTime, Document, RawBson, Timestamp, Uuid, doc, oid::ObjectId,
    spec::BinarySubtype,
};
use mongo_change_stream::{
    ChangeEvent, EventRef, Image, NamespaceRef, NamespaceType, OperationType, RawEvent, SplitEvent,
};
use serde::Deserialize;

use crate::harness::{encode, token};

const UUID: [u8; 16] = [7; 16];

fn update() -> Document {
    let uuid = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: UUID.to_vec(),
    };
    doc! {
        "_id": { "t": "x" },
        "operationType": "update",
        "clusterTime": Timestamp { time: 1, increment: 2 },
        "wallTime": DateTime::from_millis(3),
        "ns": { "db": "shop", "coll": "orders", "viewOn": "other" },
        "nsType": "timeseries",
        "to": { "db": "shop", "coll": "later" },
        "documentKey": { "_id": ObjectId::from_bytes([1; 12]) },
        "fullDocument": { "name": "a", "size": 4 },
        "fullDocumentBeforeChange": Bson::Null,
        "updateDescription": {
            "updatedFields": { "size": 4 },
            "removedFields": ["gone"],
            "truncatedArrays": [{ "field": "list", "newSize": 2, "why": 1 }],
            "disambiguatedPaths": { "a.0": ["a", 0] },
            "later": true,
        },
        "operationDescription": { "indexes": [] },
        "collectionUUID": uuid,
        "txnNumber": 5_i64,
        "lsid": { "id": 1 },
        "splitEvent": { "fragment": 1, "of": 2 },
        "later": [1, "two"],
    }
}

fn raw(event: &Document) -> RawEvent {
    RawEvent::from(encode(event))
}

#[derive(Debug, PartialEq, Deserialize)]
struct Borrowed<'a> {
    name: &'a str,
    size: i32,
}

#[test]
fn rule_12_every_field_is_read_and_unknown_ones_are_kept() {
    let raw = raw(&update());
    let event: ChangeEvent<Borrowed<'_>> = raw.deserialize().unwrap();
    assert_eq!(event.id, token("x"));
    assert_eq!(event.operation_type, OperationType::Update);
    assert_eq!(
        event.cluster_time,
        Some(Timestamp {
            time: 1,
            increment: 2
        })
    );
    assert_eq!(event.wall_time, Some(DateTime::from_millis(3)));
    let ns = event.ns.unwrap();
    assert_eq!(
        (ns.db.as_str(), ns.coll.as_deref()),
        ("shop", Some("orders"))
    );
    assert_eq!(unknown(&ns.extra, "viewOn").as_str(), Some("other"));
    assert_eq!(event.ns_type, Some(NamespaceType::TimeSeries));
    assert_eq!(event.to.unwrap().coll.as_deref(), Some("later"));
    let key = Document::try_from(event.document_key.unwrap()).unwrap();
    assert_eq!(key, doc! { "_id": ObjectId::from_bytes([1; 12]) });
    assert_eq!(
        event.full_document,
        Image::Present(Borrowed { name: "a", size: 4 })
    );
    assert_eq!(event.full_document_before_change, Image::Null);
    let update = event.update_description.unwrap();
    assert_eq!(
        Document::try_from(update.updated_fields.unwrap()).unwrap(),
        doc! { "size": 4 }
    );
    assert_eq!(update.removed_fields, ["gone"]);
    assert_eq!(
        (
            update.truncated_arrays[0].field.as_str(),
            update.truncated_arrays[0].new_size
        ),
        ("list", 2)
    );
    assert_eq!(
        unknown(&update.truncated_arrays[0].extra, "why").as_i32(),
        Some(1)
    );
    assert!(update.disambiguated_paths.is_some());
    assert_eq!(unknown(&update.extra, "later").as_bool(), Some(true));
    assert!(event.operation_description.is_some());
    assert_eq!(event.collection_uuid, Some(Uuid::from_bytes(UUID)));
    assert_eq!(event.txn_number, Some(5));
    assert!(event.lsid.is_some());
    assert_eq!(event.split_event, Some(SplitEvent { fragment: 1, of: 2 }));
    let later = Bson::try_from(unknown(&event.extra, "later").clone()).unwrap();
    assert_eq!(later, Bson::Array(vec![1.into(), "two".into()]));
    assert_eq!(event.extra.len(), 1);
}

fn unknown<'a>(extra: &'a [(String, RawBson)], key: &str) -> &'a RawBson {
    let found = extra.iter().find(|(name, _)| name == key);
    &found.expect("the field is kept").1
}

#[test]
fn rule_12_each_field_may_be_missing_but_the_id() {
    let minimal = doc! { "_id": { "t": "x" } };
    let event: ChangeEvent<Document> = raw(&minimal).deserialize().unwrap();
    assert_eq!(event.operation_type, OperationType::Other(String::new()));
    assert_eq!(event.full_document, Image::Absent);
    for key in update().keys() {
        let mut event = update();
        event.remove(key);
        let read = raw(&event).deserialize::<ChangeEvent<Document>>();
        assert_eq!(read.is_ok(), key != "_id", "without {key}");
    }
}

#[test]
fn rule_11_unknown_operations_are_no_error() {
    for (text, expected) in [
        ("insert", OperationType::Insert),
        ("dropDatabase", OperationType::DropDatabase),
        (
            "refineCollectionShardKey",
            OperationType::RefineCollectionShardKey,
        ),
        ("defragment", OperationType::Other("defragment".into())),
    ] {
        let event = raw(&doc! { "_id": {}, "operationType": text });
        assert_eq!(event.operation_type(), Some(expected.clone()));
        let typed: ChangeEvent<Document> = event.deserialize().unwrap();
        assert_eq!(typed.operation_type, expected);
        assert_eq!(typed.operation_type.to_string(), text);
    }
}

#[test]
fn need_11_full_documents_are_absent_null_or_present() {
    let image = |value: Option<Bson>| {
        let mut event = doc! { "_id": {} };
        if let Some(value) = value {
            event.insert("fullDocument", value);
        }
        let raw = raw(&event);
        let typed: ChangeEvent<Document> = raw.deserialize().unwrap();
        let borrowed = match raw.full_document() {
            Image::Present(document) => Image::Present(Document::try_from(document).unwrap()),
            Image::Null => Image::Null,
            Image::Absent => Image::Absent,
        };
        assert_eq!(borrowed, typed.full_document);
        typed.full_document
    };
    assert_eq!(image(None), Image::Absent);
    assert_eq!(image(Some(Bson::Null)), Image::Null);
    assert_eq!(
        image(Some(doc! { "a": 1 }.into())),
        Image::Present(doc! { "a": 1 })
    );
}

#[test]
fn raw_accessors_read_the_slice() {
    let event = raw(&update());
    let ns = NamespaceRef {
        database: "shop",
        collection: Some("orders"),
    };
    assert_eq!(event.namespace(), Some(ns));
    assert_eq!(ns.to_string(), "shop.orders");
    assert_eq!(event.token(), Some(token("x")));
    assert_eq!(
        event.cluster_time(),
        Some(Timestamp {
            time: 1,
            increment: 2
        })
    );
    assert_eq!(event.wall_time(), Some(DateTime::from_millis(3)));
    let view = event.view();
    assert_eq!(view.to().unwrap().collection, Some("later"));
    assert_eq!(view.full_document_before_change(), Image::Null);
    assert_eq!(view.split_event(), Some(SplitEvent { fragment: 1, of: 2 }));
    assert_eq!(view.update_description().unwrap().iter().count(), 5);
    let key = event.document_key().unwrap();
    assert_eq!(
        key.get_object_id("_id").unwrap(),
        ObjectId::from_bytes([1; 12])
    );
    let inside = event.document().as_bytes().as_ptr_range();
    assert!(
        inside.contains(&key.as_bytes().as_ptr()),
        "a slice, not a copy"
    );
}

#[test]
fn raw_accessors_answer_none_to_reshaped_events() {
    let event = raw(
        &doc! { "_id": 1, "ns": "x", "operationType": 2, "clusterTime": "now", "fullDocument": 3 },
    );
    assert_eq!(event.token(), None);
    assert_eq!(event.namespace(), None);
    assert_eq!(event.operation_type(), None);
    assert_eq!(event.cluster_time(), None);
    assert_eq!(event.full_document(), Image::Absent);
    assert_eq!(event.document_key(), None);
}

#[test]
fn database_level_namespace_has_no_collection() {
    let event = raw(&doc! { "_id": {}, "ns": { "db": "shop" } });
    assert_eq!(event.namespace().unwrap().to_string(), "shop");
    let typed: ChangeEvent<Document> = event.deserialize().unwrap();
    assert_eq!(typed.ns.unwrap().coll, None);
}

#[test]
fn any_type_can_be_read_and_a_misfit_is_an_error() {
    #[derive(Deserialize)]
    struct Reshaped<'a> {
        title: &'a str,
    }
    let event = raw(&doc! { "_id": {}, "title": "t" });
    assert_eq!(event.deserialize::<Reshaped<'_>>().unwrap().title, "t");
    let misfit = raw(&doc! { "_id": {}, "fullDocument": { "size": "big" } });
    assert!(misfit.deserialize::<ChangeEvent<Borrowed<'_>>>().is_err());
    assert!(format!("{:?}", EventRef::new(misfit.document())).contains("big"));
}
