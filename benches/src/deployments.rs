//! Topologies as wide as is wanted, and a machine in the middle of its work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{RawArrayBuf, RawDocumentBuf, cstr, oid::ObjectId, rawdoc};
use mongo_topology::{
    Action, CheckId, HelloReply, Input, RoundTrip, ServerDescription, ServerId, Servers, Topology,
    TopologyConfig, TopologyDescription, TopologyType,
};
use mongo_uri::ServerAddress;

/// The number of servers of the widest topologies.
pub const WIDTHS: [usize; 6] = [1, 3, 10, 50, 200, 1_000];

/// The address of a server.
#[must_use]
pub fn address(number: usize) -> ServerAddress {
    ServerAddress::tcp(&format!("server-{number:04}.example.com"), 27017)
}

/// The hello reply of a member of a set; member 0 is the primary.
#[must_use]
pub fn member_reply(number: usize, members: usize) -> RawDocumentBuf {
    let hosts: RawArrayBuf = (0..members).map(|host| address(host).to_string()).collect();
    let mut reply = rawdoc! {
        "isWritablePrimary": number == 0,
        "secondary": number != 0,
        "setName": "rs",
        "setVersion": 1,
        "electionId": ObjectId::from_bytes([1; 12]),
        "hosts": hosts,
        "me": address(number).to_string(),
        "primary": address(0).to_string(),
        "tags": { "dc": if number.is_multiple_of(2) { "east" } else { "west" } },
        "lastWrite": { "lastWriteDate": bson::DateTime::from_millis(1_700_000_000_000) },
        "topologyVersion": { "processId": ObjectId::from_bytes([2; 12]), "counter": 3_i64 },
    };
    append_common(&mut reply);
    reply
}

/// The hello reply of a router.
#[must_use]
pub fn router_reply() -> RawDocumentBuf {
    let mut reply = rawdoc! { "isWritablePrimary": true, "msg": "isdbgrid" };
    append_common(&mut reply);
    reply
}

fn append_common(reply: &mut RawDocumentBuf) {
    reply.append(cstr!("helloOk"), true);
    reply.append(cstr!("maxBsonObjectSize"), 16_777_216);
    reply.append(cstr!("maxMessageSizeBytes"), 48_000_000);
    reply.append(cstr!("maxWriteBatchSize"), 100_000);
    reply.append(cstr!("logicalSessionTimeoutMinutes"), 30);
    reply.append(cstr!("minWireVersion"), 0);
    reply.append(cstr!("maxWireVersion"), 21);
    reply.append(cstr!("ok"), 1.0);
}

/// A known server, 1 to 10 ms away.
fn server(number: usize, reply: &RawDocumentBuf) -> Arc<ServerDescription> {
    let reply = HelloReply::parse(reply).expect("a good reply");
    let id = ServerId {
        address: address(number),
        instance: 1,
    };
    let millis = u64::try_from(number % 10).expect("small") + 1;
    let average = Duration::from_millis(millis);
    let round_trip = RoundTrip {
        average: Some(average),
        minimum: average,
    };
    Arc::new(ServerDescription::answered(
        id,
        Arc::new(reply),
        round_trip,
        Instant::now(),
    ))
}

/// A replica set in which everything is known.
#[must_use]
pub fn replica_set(members: usize) -> TopologyDescription {
    let servers = (0..members).map(|number| server(number, &member_reply(number, members)));
    let servers: Servers = servers.collect();
    TopologyDescription::new(TopologyType::ReplicaSetWithPrimary, servers)
}

/// The routers of a sharded cluster.
#[must_use]
pub fn routers(count: usize) -> TopologyDescription {
    let reply = router_reply();
    let servers: Servers = (0..count).map(|number| server(number, &reply)).collect();
    TopologyDescription::new(TopologyType::Sharded, servers)
}

/// A machine that knows a whole replica set, and whose every monitor streams.
#[derive(Clone, Debug)]
pub struct Watched {
    machine: Topology,
    now: Instant,
    /// The server whose replies are measured.
    server: ServerId,
    check: CheckId,
}

impl Watched {
    /// A set of so many members, the last of which sends the replies.
    ///
    /// # Panics
    /// Never: the machine asks for a check of each seed.
    #[must_use]
    pub fn replica_set(members: usize) -> Self {
        let now = Instant::now();
        let config = TopologyConfig::new((0..members).map(address).collect());
        let mut machine = Topology::new(config, 1, now);
        let wanted = address(members - 1);
        let mut waiting = Vec::new();
        let mut latest = None;
        // Each reply starts the next check; two rounds bring every server there.
        for _ in 0..2 {
            take_checks(&mut machine, &mut waiting);
            for (server, check) in std::mem::take(&mut waiting) {
                let number = (0..members).find(|number| address(*number) == server.address);
                let reply = member_reply(number.expect("a seed"), members);
                machine.handle(hello(server, check, parsed(&reply)), now);
                take_checks(&mut machine, &mut waiting);
            }
        }
        for (server, check) in waiting {
            if server.address == wanted {
                latest = Some((server, check));
            }
        }
        let (server, check) = latest.expect("the monitor streams");
        Self {
            machine,
            now,
            server,
            check,
        }
    }

    /// Takes the next reply of the server, as a client's topology task does: hand it in, carry out
    /// what it orders. Returns the number of orders.
    pub fn receive(&mut self, reply: HelloReply) -> usize {
        let input = hello(self.server.clone(), self.check, reply);
        self.machine.handle(input, self.now);
        let mut orders = 0;
        while let Some(action) = self.machine.poll_action() {
            if let Action::Check { id, .. } = action {
                self.check = id;
            }
            orders += 1;
        }
        orders
    }

    /// What the machine knows.
    #[must_use]
    pub fn description(&self) -> Arc<TopologyDescription> {
        self.machine.description()
    }
}

/// Reads a reply made here.
///
/// # Panics
/// Never: they are good.
#[must_use]
pub fn parsed(reply: &RawDocumentBuf) -> HelloReply {
    HelloReply::parse(reply).expect("a good reply")
}

fn hello(server: ServerId, check: CheckId, reply: HelloReply) -> Input {
    let round_trip = Some(Duration::from_millis(1));
    Input::HelloReceived {
        server,
        check,
        reply,
        round_trip,
        more_to_come: true,
    }
}

fn take_checks(machine: &mut Topology, checks: &mut Vec<(ServerId, CheckId)>) {
    while let Some(action) = machine.poll_action() {
        if let Action::Check { server, id, .. } = action {
            checks.push((server, id));
        }
    }
}
