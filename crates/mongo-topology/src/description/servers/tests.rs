//! The ranking follows every change.

use bson::rawdoc;
use proptest::prelude::*;

use super::*;
use crate::hello::HelloReply;
use crate::rtt::RoundTrip;
use crate::server::ServerId;
use crate::test_time;

fn server(port: u16, kind: u8, millis: u64) -> Arc<ServerDescription> {
    let id = ServerId {
        address: ServerAddress::tcp("a", port),
        instance: 1,
    };
    let reply = match kind {
        0 => return Arc::new(ServerDescription::unknown(id)),
        1 => rawdoc! { "ok": 1, "msg": "isdbgrid" },
        _ => rawdoc! { "ok": 1, "setName": "rs", "secondary": true },
    };
    let average = Some(Duration::from_millis(millis));
    let round_trip = RoundTrip {
        average,
        minimum: Duration::ZERO,
    };
    let reply = Arc::new(HelloReply::parse(&reply).unwrap());
    Arc::new(ServerDescription::answered(
        id,
        reply,
        round_trip,
        test_time::start(),
    ))
}

proptest! {
    #[test]
    fn servers_stay_sorted_and_ranked(
        steps in prop::collection::vec((1..12_u16, 0..4_u8, 0..4_u64), 0..60),
    ) {
        let mut servers = Servers::default();
        for (port, kind, millis) in steps {
            if kind == 3 {
                servers.remove(&ServerAddress::tcp("a", port));
            } else {
                servers.insert(server(port, kind, millis));
            }
            prop_assert!(servers.addresses().is_sorted());
            prop_assert_eq!(servers.ranking.len(), servers.len());
            prop_assert!(servers.all_ranked().iter().map(Entry::rank).is_sorted());
            for wanted in [ServerType::Unknown, ServerType::Mongos, ServerType::RsSecondary] {
                let expected = servers.iter().filter(|own| own.server_type() == wanted).count();
                prop_assert_eq!(servers.of_type(wanted).count(), expected);
                prop_assert!(servers.of_type(wanted).all(|own| own.server_type() == wanted));
            }
        }
    }
}
