//! Every option at every level: where it goes, that it goes nowhere else, that the server takes it.

use std::time::Duration;

use bson::{Bson, Document, Timestamp, doc, rawdoc};
use integration_tests::{id_of, next, within};
use mongo_client::Watch;
use mongo_client::change_stream::{
    EventFilter, FullDocumentBeforeChangeType, FullDocumentType, OperationType, ResumeToken,
};
use testbed::mongod::ServerVersion;

use crate::deployment::{World, document, stage};

/// One option, and the keys it leaves in each command, envelope aside.
struct Case {
    name: &'static str,
    oldest: ServerVersion,
    set: Box<dyn Fn(Watch) -> Watch>,
    in_stage: Document,
    in_aggregate: Document,
    in_cursor: Document,
    in_get_more: Document,
}

fn case(name: &'static str, set: impl Fn(Watch) -> Watch + 'static) -> Case {
    Case {
        name,
        oldest: ServerVersion::V4_2,
        set: Box::new(set),
        in_stage: doc! {},
        in_aggregate: doc! {},
        in_cursor: doc! {},
        in_get_more: doc! {},
    }
}

impl Case {
    fn since(mut self, version: ServerVersion) -> Self {
        self.oldest = version;
        self
    }

    fn stage(mut self, stage: Document) -> Self {
        self.in_stage = stage;
        self
    }

    fn runs_on(&self, version: ServerVersion) -> bool {
        let place = |version| {
            ServerVersion::PINNED
                .iter()
                .position(|known| *known == version)
        };
        place(self.oldest) <= place(version)
    }
}

fn cases(world: &World, token: &ResumeToken, time: Timestamp) -> Vec<Case> {
    let saved = document(Some(token.clone())).unwrap();
    let (resume, start) = (token.clone(), token.clone());
    let comment = |name, value: Bson| {
        let raw = bson::RawBson::try_from(value.clone()).unwrap();
        let mut case = case(name, move |watch: Watch| watch.comment(raw.clone()));
        case.in_aggregate = doc! { "comment": value };
        if !world.is_4_2() {
            case.in_get_more = case.in_aggregate.clone();
        }
        case
    };
    let mut all = vec![
        case("none", |watch| watch),
        case("fullDocument", |watch| {
            watch.full_document(FullDocumentType::UpdateLookup)
        })
        .stage(doc! { "fullDocument": "updateLookup" }),
        case("fullDocument default", |watch| {
            watch.full_document(FullDocumentType::Default)
        })
        .stage(doc! { "fullDocument": "default" }),
        case("fullDocument whenAvailable", |watch| {
            watch.full_document(FullDocumentType::WhenAvailable)
        })
        .stage(doc! { "fullDocument": "whenAvailable" })
        .since(ServerVersion::V6_0),
        case("fullDocumentBeforeChange", |watch| {
            watch.full_document_before_change(FullDocumentBeforeChangeType::WhenAvailable)
        })
        .stage(doc! { "fullDocumentBeforeChange": "whenAvailable" })
        .since(ServerVersion::V6_0),
        case("resumeAfter", move |watch| {
            watch.resume_after(resume.clone())
        })
        .stage(doc! { "resumeAfter": saved.clone() }),
        case("startAfter", move |watch| watch.start_after(start.clone()))
            .stage(doc! { "startAfter": saved }),
        case("startAtOperationTime", move |watch| {
            watch.start_at_operation_time(time)
        })
        .stage(doc! { "startAtOperationTime": time }),
        case("showExpandedEvents", |watch| {
            watch.show_expanded_events(true)
        })
        .stage(doc! { "showExpandedEvents": true })
        .since(ServerVersion::V6_0),
        comment("comment", "text".into()),
        comment("comment of another type", doc! { "a": 1 }.into()).since(ServerVersion::V4_4),
    ];
    let mut size = case("batchSize", |watch| watch.batch_size(7));
    size.in_cursor = doc! { "batchSize": 7 };
    size.in_get_more = size.in_cursor.clone();
    let mut none = case("batchSize 0", |watch| watch.batch_size(0));
    none.in_cursor = doc! { "batchSize": 0 };
    let mut wait = case("maxAwaitTimeMS", |watch| {
        watch.max_await_time(Duration::from_millis(77))
    });
    wait.in_get_more = doc! { "maxTimeMS": 77_i64 };
    let collation = doc! { "locale": "en", "strength": 2 };
    let raw = crate::deployment::raw(&collation);
    let mut collated = case("collation", move |watch| watch.collation(raw.clone()));
    collated.in_aggregate = doc! { "collation": collation };
    all.extend([size, none, wait, collated]);
    all
}

/// The keys that sessions, the cluster's clock and read preference add are no business of these
/// tests.
fn without_envelope(command: &Document) -> Document {
    let mut command = command.clone();
    for key in ["lsid", "$clusterTime", "$readPreference", "readConcern"] {
        command.remove(key);
    }
    command
}

pub(crate) async fn every_option_at_every_level(world: World) {
    let name = world.database.name().to_owned();
    let levels: [(&str, Document, Document, &dyn Fn() -> Watch); 3] = [
        (
            "collection",
            doc! { "aggregate": "things", "$db": &name },
            doc! {},
            &|| world.collection.watch(),
        ),
        (
            "database",
            doc! { "aggregate": 1, "$db": &name },
            doc! {},
            &|| world.database.watch(),
        ),
        (
            "cluster",
            doc! { "aggregate": 1, "$db": "admin" },
            doc! { "allChangesForCluster": true },
            &|| world.client.watch(),
        ),
    ];
    let mut written = 0;
    for (level, base, base_stage, watch) in levels {
        let mut stream = watch().await.unwrap();
        world.insert(written..written + 1).await;
        written += 1;
        let first = next(&mut stream).await;
        let token = first.token().unwrap();
        let time = first.cluster_time().unwrap();
        drop(stream);
        for case in cases(&world, &token, time) {
            if !case.runs_on(world.version) {
                continue;
            }
            let what = format!("{} at the level of the {level}", case.name);
            let (aggregates, get_mores) = (world.sent("aggregate"), world.sent("getMore"));
            let mut stream = within((case.set)(watch()).prefetch(None)).await.unwrap();
            world.insert(written..written + 1).await;
            while id_of(&next(&mut stream).await) != written {}
            written += 1;

            let sent = world.sent("aggregate")[aggregates.len()..].to_vec();
            let [aggregate] = &sent[..] else {
                panic!("{what}: {sent:?}")
            };
            let mut expected = base.clone();
            let mut in_stage = base_stage.clone();
            in_stage.extend(case.in_stage.clone());
            expected.insert("pipeline", vec![doc! { "$changeStream": &in_stage }]);
            expected.insert("cursor", case.in_cursor.clone());
            expected.extend(case.in_aggregate.clone());
            assert_same(&without_envelope(aggregate), &expected, &what);
            assert_eq!(stage(aggregate), in_stage, "{what}");

            let get_mores = world.sent("getMore")[get_mores.len()..].to_vec();
            let get_more = get_mores.last();
            let get_more = get_more.unwrap_or_else(|| panic!("{what}: no getMore"));
            let mut get_more = without_envelope(get_more);
            for key in ["getMore", "collection", "$db"] {
                assert!(get_more.remove(key).is_some(), "{what}: {key}");
            }
            assert_same(&get_more, &case.in_get_more, &what);
        }
    }
}

/// The same keys and values, in whatever order.
fn assert_same(found: &Document, expected: &Document, what: &str) {
    let sorted = |document: &Document| {
        let mut entries: Vec<_> = document.clone().into_iter().collect();
        entries.sort_by(|(one, _), (two, _)| one.cmp(two));
        entries
    };
    assert_eq!(sorted(found), sorted(expected), "{what}");
}

/// Between the two resumes nothing happens that moves the token forward by an event.
pub(crate) async fn two_resumes_in_a_row_keep_the_options(world: World) {
    let watch = world.collection.watch().prefetch(None).batch_size(5);
    let mut stream = watch
        .max_await_time(Duration::from_millis(60))
        .await
        .unwrap();
    let mut tokens = vec![stream.resume_token().unwrap()];
    world.fail_resumably(&["getMore"], 2).await;
    while world.sent("aggregate").len() < 3 {
        assert!(within(stream.next_if_any()).await.unwrap().is_none());
        tokens.push(stream.resume_token().unwrap());
    }
    assert!(
        tokens.is_sorted_by_key(ResumeToken::cluster_time),
        "{tokens:?}"
    );
    world.insert(1..2).await;
    assert_eq!(id_of(&next(&mut stream).await), 1);
    let cursor = rawdoc! { "batchSize": 5 };
    let cursor = Document::try_from(&*cursor).unwrap();
    for aggregate in world.sent("aggregate") {
        assert_eq!(aggregate.get_document("cursor").unwrap(), &cursor);
    }
    for get_more in world.sent("getMore") {
        assert_eq!(get_more.get("batchSize"), Some(&Bson::Int32(5)));
        assert_eq!(get_more.get("maxTimeMS"), Some(&Bson::Int64(60)));
    }
}

/// Every kind of condition that a filter has, which each version has a way of its own to optimise.
pub(crate) async fn a_filter_with_everything(world: World) {
    let name = world.database.name();
    let pattern = |collection: &str| format!("{name}.{collection}").parse().unwrap();
    let filter = EventFilter::default()
        .include([
            "x".parse().unwrap(),
            "y*".parse().unwrap(),
            pattern("a"),
            pattern("b*"),
        ])
        .exclude([
            "x2".parse().unwrap(),
            "z*".parse().unwrap(),
            pattern("ba"),
            pattern("bb*"),
        ])
        .operations([OperationType::Insert])
        .only_fields(["documentKey", "fullDocument"]);
    let mut stream = within(world.client.watch().filter(filter.clone()))
        .await
        .unwrap();
    let collections = ["a", "aa", "b", "ba", "bab", "bb", "bbb", "bc", "a"];
    for (id, collection) in (0..).zip(collections) {
        integration_tests::insert(&world.database, collection, [id]).await;
    }
    for expected in [0, 2, 4, 7, 8] {
        let event = next(&mut stream).await;
        assert_eq!(id_of(&event), expected);
        assert!(filter.matches(event.view()));
    }
}
