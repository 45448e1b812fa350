//! Filters: what the stages say against what the filter says.

use bson::{Bson, Document, doc, raw::RawDocumentBuf};
use mongo_change_stream::{EventFilter, EventRef, NamespacePattern, OperationType};
use proptest::{collection::vec, prelude::*, sample::select};

/// Names that are prefixes of each other, and that a regular expression could misread.
const DATABASES: [&str; 5] = ["a", "ab", "a+", "a|b", "b"];
const COLLECTIONS: [&str; 7] = ["c", "c.d", "cxd", "c$", "cc", "(c", "ü"];
const OPERATIONS: [&str; 5] = ["insert", "update", "drop", "rename", "dropDatabase"];

fn pattern() -> impl Strategy<Value = NamespacePattern> {
    let database = || select(&DATABASES[..]).prop_map(str::to_owned);
    let collection = || select(&COLLECTIONS[..]).prop_map(str::to_owned);
    let begin = |name: String, length: usize| name.chars().take(length).collect::<String>();
    prop_oneof![
        database().prop_map(NamespacePattern::Database),
        (database(), 0..3_usize)
            .prop_map(move |(name, len)| NamespacePattern::DatabasePrefix(begin(name, len))),
        (database(), collection()).prop_map(|(database, collection)| {
            NamespacePattern::Collection {
                database,
                collection,
            }
        }),
        (database(), collection(), 0..3_usize).prop_map(move |(database, name, len)| {
            NamespacePattern::CollectionPrefix {
                database,
                prefix: begin(name, len),
            }
        }),
    ]
}

fn filter() -> impl Strategy<Value = EventFilter> {
    let operations = vec(select(&OPERATIONS[..]), 0..3);
    (vec(pattern(), 0..4), vec(pattern(), 0..3), operations).prop_map(
        |(include, exclude, operations)| {
            EventFilter::default()
                .include(include)
                .exclude(exclude)
                .operations(operations.into_iter().map(OperationType::from))
        },
    )
}

fn event() -> impl Strategy<Value = Document> {
    let collection = (
        select(&DATABASES[..]),
        select(&COLLECTIONS[..]),
        select(&OPERATIONS[..4]),
    )
        .prop_map(|(db, coll, operation)| {
            doc! { "operationType": operation, "ns": { "db": db, "coll": coll } }
        });
    let database = select(&DATABASES[..])
        .prop_map(|db| doc! { "operationType": "dropDatabase", "ns": { "db": db } });
    let invalidate = Just(doc! { "operationType": "invalidate" });
    prop_oneof![8 => collection, 2 => database, 1 => invalidate]
}

/// What a server does with the little of its language that filters are written in.
fn holds(condition: &Document, event: &Document) -> bool {
    let branch = |branch: &Bson| holds(branch.as_document().unwrap(), event);
    condition.iter().all(|(key, condition)| match key.as_str() {
        "$or" => condition.as_array().unwrap().iter().any(branch),
        "$and" => condition.as_array().unwrap().iter().all(branch),
        path => fits(condition, field(event, path)),
    })
}

fn field<'a>(event: &'a Document, path: &str) -> Option<&'a str> {
    match path.split_once('.') {
        Some((outer, inner)) => event.get_document(outer).ok()?.get_str(inner).ok(),
        None => event.get_str(path).ok(),
    }
}

/// A field that is missing equals nothing, and so is unequal to everything.
fn fits(condition: &Bson, found: Option<&str>) -> bool {
    match condition {
        Bson::String(text) => found == Some(text),
        Bson::RegularExpression(regex) => {
            assert_eq!(regex.options.as_str(), "");
            found.is_some_and(|found| found.starts_with(&literal(regex.pattern.as_str())))
        }
        Bson::Document(operator) => {
            let (name, value) = operator.iter().next().unwrap();
            let is_in = || value.as_array().unwrap().iter().any(|one| fits(one, found));
            match name.as_str() {
                "$in" => is_in(),
                "$nin" => !is_in(),
                "$ne" | "$not" => !fits(value, found),
                other => panic!("{other}"),
            }
        }
        other => panic!("{other}"),
    }
}

/// The text that an anchored regular expression of escaped characters stands for.
fn literal(pattern: &str) -> String {
    let mut characters = pattern.strip_prefix('^').unwrap().chars();
    let mut text = String::new();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => characters.next().unwrap(),
            plain => {
                assert!(plain.is_alphanumeric(), "{plain} may mean something");
                plain
            }
        });
    }
    text
}

fn raw(document: &Document) -> RawDocumentBuf {
    document.try_into().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_stages_keep_what_the_filter_says(filter in filter(), events in vec(event(), 1..20)) {
        let stages = filter.stages();
        let conditions = stages.iter().map(|stage| {
            let stage = Document::try_from(&**stage).unwrap();
            stage.get_document("$match").unwrap().clone()
        });
        let conditions: Vec<_> = conditions.collect();
        prop_assert!(conditions.len() <= 1);
        for event in events {
            let kept = conditions.iter().all(|condition| holds(condition, &event));
            let raw = raw(&event);
            prop_assert_eq!(filter.matches(EventRef::new(&raw)), kept, "{}", event);
        }
    }

    #[test]
    fn a_pattern_is_read_as_it_is_written(pattern in pattern()) {
        let text = pattern.to_string();
        if let Ok(read) = text.parse::<NamespacePattern>() {
            prop_assert_eq!(read, pattern);
        } else {
            panic!("{text}");
        }
    }
}

#[test]
fn the_stages_have_the_form_that_servers_are_fast_with() {
    let patterns = ["shop", "crm", "a.x", "a.y", "b.z", "log*", "a.tmp_*"];
    let filter = EventFilter::default()
        .include(patterns.map(|pattern| pattern.parse().unwrap()))
        .exclude(["shop.secrets", "old", "x*", "a.y*"].map(|pattern| pattern.parse().unwrap()))
        .operations([OperationType::Insert]);
    let regex = |pattern: &str| bson::Regex {
        pattern: pattern.to_owned().try_into().unwrap(),
        options: bson::cstr!("").into(),
    };
    let expected = doc! { "$match": {
        "operationType": { "$in": ["insert", "invalidate"] },
        "$or": [
            { "ns.db": { "$in": ["shop", "crm"] } },
            { "ns.db": regex("^log") },
            { "ns.db": "a", "ns.coll": { "$in": ["x", "y"] } },
            { "ns.db": "b", "ns.coll": { "$in": ["z"] } },
            { "ns.db": "a", "ns.coll": regex("^tmp\\_") },
            { "operationType": "invalidate" },
        ],
        "$and": [
            { "ns.db": { "$nin": ["old"] } },
            { "ns.db": { "$not": regex("^x") } },
            { "$or": [{ "ns.db": { "$ne": "shop" } }, { "ns.coll": { "$nin": ["secrets"] } }] },
            { "$or": [{ "ns.db": { "$ne": "a" } }, { "ns.coll": { "$not": regex("^y") } }] },
        ],
    } };
    assert_eq!(filter.stages(), [raw(&expected)]);
    assert!(EventFilter::default().stages().is_empty());
}

#[test]
fn fields_are_projected_and_those_a_stream_needs_are_kept() {
    let filter = EventFilter::default().only_fields(["documentKey", "ns"]);
    let kept = doc! { "_id": 1, "clusterTime": 1, "documentKey": 1, "ns": 1, "operationType": 1 };
    assert_eq!(filter.stages(), [raw(&doc! { "$project": kept })]);
    let filter = EventFilter::default().without_fields(["fullDocument.secret", "wallTime"]);
    let lost = doc! { "fullDocument.secret": 0, "wallTime": 0 };
    assert_eq!(filter.stages(), [raw(&doc! { "$project": lost })]);
}

#[test]
fn what_is_no_pattern_is_refused() {
    for text in ["", ".", ".c", "a.", "a*b", "*.c", "a.*c", "a**", "a\0"] {
        assert!(text.parse::<NamespacePattern>().is_err(), "{text:?}");
    }
    assert_eq!(
        "*".parse(),
        Ok(NamespacePattern::DatabasePrefix(String::new()))
    );
}
