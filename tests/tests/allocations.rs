//! What costs no allocation, counted by the allocator itself.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use bson::{RawArrayBuf, rawdoc};
use bytes::BytesMut;
use mongo_topology::{
    HelloReply, Rng, RoundTrip, SelectionCriteria, ServerDescription, ServerId, Servers,
    TopologyDescription, TopologyType,
};
use mongo_uri::{ReadPreference, ReadPreferenceMode, ServerAddress, TagSet};
use mongo_wire::{CommandReply, Document, Limits, Message, OpMsg, decode};

fn address(number: usize) -> ServerAddress {
    ServerAddress::tcp(&format!("server{number:04}"), 27017)
}

fn topology(
    topology_type: TopologyType,
    count: usize,
    reply: impl Fn(usize) -> HelloReply,
) -> TopologyDescription {
    let server = |number: usize| {
        let id = ServerId {
            address: address(number),
            instance: 1,
        };
        let average = Duration::from_millis(u64::try_from(number % 20).unwrap() + 1);
        let round_trip = RoundTrip {
            average: Some(average),
            minimum: average,
        };
        let reply = Arc::new(reply(number));
        Arc::new(ServerDescription::answered(
            id,
            reply,
            round_trip,
            Instant::now(),
        ))
    };
    TopologyDescription::new(topology_type, (0..count).map(server).collect::<Servers>())
}

fn routers(count: usize) -> TopologyDescription {
    let reply = rawdoc! { "ok": 1, "msg": "isdbgrid", "maxWireVersion": 21 };
    topology(TopologyType::Sharded, count, |_| {
        HelloReply::parse(&reply).unwrap()
    })
}

fn members(count: usize) -> TopologyDescription {
    topology(TopologyType::ReplicaSetWithPrimary, count, |number| {
        let reply = rawdoc! {
            "ok": 1, "setName": "rs", "maxWireVersion": 21,
            "isWritablePrimary": number == 0, "secondary": number != 0,
            "tags": { "dc": if number.is_multiple_of(2) { "east" } else { "west" } },
            "lastWrite": { "lastWriteDate": bson::DateTime::from_millis(1_700_000_000_000) },
        };
        HelloReply::parse(&reply).unwrap()
    })
}

fn preference(mode: ReadPreferenceMode) -> ReadPreference {
    ReadPreference {
        mode,
        ..ReadPreference::default()
    }
}

#[test]
fn selection_allocates_nothing_whatever_the_deployment_and_the_wish() {
    let mut demanding = preference(ReadPreferenceMode::SecondaryPreferred);
    let tags = |dc: &str| TagSet([("dc".to_owned(), dc.to_owned())].into());
    demanding.tag_sets = vec![tags("north"), tags("west")];
    demanding.max_staleness = Some(Duration::from_secs(120));
    let preferences = [
        preference(ReadPreferenceMode::Primary),
        preference(ReadPreferenceMode::PrimaryPreferred),
        preference(ReadPreferenceMode::Secondary),
        preference(ReadPreferenceMode::Nearest),
        demanding,
    ];
    let avoided = [address(1), address(2)];
    for description in [routers(1_000), members(50)] {
        let mut rng = Rng::from_seed(1);
        for preference in &preferences {
            let reads = SelectionCriteria::read(preference);
            for criteria in [
                reads,
                reads.deprioritizing(&avoided),
                SelectionCriteria::write(),
            ] {
                let counted = measure(|| {
                    assert!(description.select(&criteria, |_| 3, &mut rng).is_ok());
                });
                assert_eq!(
                    counted.count_total, 0,
                    "{criteria} in {}",
                    description.topology_type
                );
            }
        }
    }
}

/// A reply with so many events, as it comes off the wire.
fn received(events: i32) -> BytesMut {
    let event = |id| rawdoc! { "_id": { "_data": "82" }, "fullDocument": { "_id": id } };
    let batch: RawArrayBuf = (0..events).map(event).collect();
    let cursor = rawdoc! {
        "nextBatch": batch, "postBatchResumeToken": { "_data": "83" }, "id": 7_i64, "ns": "d.c",
    };
    let reply = Document::from(rawdoc! { "cursor": cursor, "ok": 1.0 });
    let mut wire = BytesMut::new();
    OpMsg::new(2, reply)
        .in_response_to(1)
        .encode(&mut wire, &Limits::default())
        .unwrap();
    wire
}

#[test]
fn way_from_the_bytes_of_a_reply_to_its_events_allocates_nothing_for_an_event() {
    let count = |events: i32| {
        let mut src = received(events);
        let counted = measure(|| {
            let Some(Message::Msg(message)) = decode(&mut src, &Limits::default()).unwrap() else {
                panic!("a whole message");
            };
            let reply = CommandReply::new(message.body().clone());
            assert!(reply.is_ok().unwrap());
            let cursor = reply.cursor().unwrap();
            assert!(cursor.post_batch_resume_token.is_some());
            let views = cursor
                .batch
                .iter()
                .map(|event| event.unwrap().as_bytes().len());
            let slices = cursor.batch.documents().map(|event| event.unwrap().len());
            assert!(views.eq(slices));
        });
        counted.count_total
    };
    let (none, many) = (count(0), count(1_000));
    assert_eq!(none, many);
    assert!(
        none <= 2,
        "the section list, and once a buffer what shares it; not {none}"
    );
}
