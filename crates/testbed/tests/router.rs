//! The router before a real replica set.

#![allow(clippy::unwrap_used, reason = "a test and its helpers")]

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{RawDocumentBuf, rawdoc};
use testbed::cluster::ReplicaSet;
use testbed::connection::Connection;
use testbed::router::{Face, Router};

const PATIENCE: Duration = Duration::from_secs(20);

fn connect(router: &Router) -> Connection {
    Connection::open(&router.address(), PATIENCE).unwrap()
}

fn service(connection: &mut Connection) -> Option<ObjectId> {
    let hello = rawdoc! { "hello": 1, "loadBalanced": true };
    let reply: RawDocumentBuf = connection.run_command("admin", &hello).unwrap();
    assert_eq!(reply.get_str("msg").unwrap(), "isdbgrid");
    reply.get_object_id("serviceId").ok()
}

#[test]
fn a_router_answers_hello_as_a_mongos_and_passes_the_rest_on() {
    let set = ReplicaSet::start(1).unwrap();
    let target = set.primary().unwrap().address().to_owned();

    let mongos = Router::start(&target, Face::Mongos).unwrap();
    let mut connection = connect(&mongos);
    let hello = connection.run_command("admin", &rawdoc! { "hello": 1 });
    let hello = hello.unwrap();
    assert_eq!(hello.get_str("msg").unwrap(), "isdbgrid");
    assert!(hello.get("setName").unwrap().is_none());
    assert!(hello.get_bool("isWritablePrimary").unwrap());
    let insert = rawdoc! { "insert": "c", "documents": [{ "_id": 1 }] };
    connection.run_command("db", &insert).unwrap();
    let count = rawdoc! { "count": "c" };
    let reply = connection.run_command("db", &count).unwrap();
    assert_eq!(reply.get_i32("n").unwrap(), 1);
    // A mongos that was told of no load balancer names no service.
    assert_eq!(service(&mut connection), None);

    let balancer = Router::start(&target, Face::LoadBalancer(2)).unwrap();
    let mut connections = [(); 3].map(|()| connect(&balancer));
    // They are taken in the order in which they were opened.
    let services: Vec<_> = connections.iter_mut().map(service).collect();
    assert!(services[0].is_some());
    assert_ne!(services[0], services[1]);
    assert_eq!(services[0], services[2]);
    assert_eq!(service(&mut connections[1]), services[1]);

    drop(balancer);
    let ping = rawdoc! { "ping": 1 };
    assert!(connections[0].run_command("admin", &ping).is_err());
}
