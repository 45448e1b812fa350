//! Taking in a hello reply, and selecting a server, against the number of servers.

use std::hint::black_box;
use std::time::Duration;

use benches::cpu_time::{CpuTime, criterion};
use benches::deployments::{WIDTHS, Watched, member_reply, parsed, replica_set, routers};
use criterion::{BatchSize, Criterion};
use mongo_topology::{Rng, SelectionCriteria, TopologyDescription, TopologyType};
use mongo_uri::{ReadPreference, ReadPreferenceMode, TagSet};

fn hellos(c: &mut Criterion<CpuTime>) {
    for members in WIDTHS.into_iter().filter(|members| *members <= 200) {
        let mut watched = Watched::replica_set(members);
        let description = watched.description();
        let topology_type = description.topology_type;
        assert_eq!(
            topology_type,
            TopologyType::ReplicaSetWithPrimary,
            "{description}"
        );
        let document = member_reply(members - 1, members);
        let reply = parsed(&document);
        let case = format!("{members} members");
        c.benchmark_group("apply a hello")
            .bench_function(&case, |b| {
                let again = || reply.clone();
                b.iter_batched(again, |reply| watched.receive(reply), BatchSize::SmallInput);
            });
        c.benchmark_group("parse a hello")
            .bench_function(&case, |b| {
                b.iter(|| parsed(black_box(&document)));
            });
    }
}

fn bench_select(
    c: &mut Criterion<CpuTime>,
    group: &str,
    description: &TopologyDescription,
    criteria: &SelectionCriteria<'_>,
) {
    let mut rng = Rng::from_seed(1);
    let width = description.servers.len().to_string();
    c.benchmark_group(group).bench_function(width, |b| {
        b.iter(|| {
            let server = black_box(description).select(criteria, |_| 0, &mut rng);
            black_box(server).expect("there is one").server_type()
        });
    });
}

fn selections(c: &mut Criterion<CpuTime>) {
    let mode = |mode| ReadPreference {
        mode,
        ..ReadPreference::default()
    };
    let nearest = mode(ReadPreferenceMode::Nearest);
    let mut demanding = mode(ReadPreferenceMode::SecondaryPreferred);
    demanding.tag_sets = vec![TagSet([("dc".to_owned(), "west".to_owned())].into())];
    demanding.max_staleness = Some(Duration::from_secs(120));
    for width in WIDTHS {
        let routers = routers(width);
        let reads = SelectionCriteria::read(&nearest);
        bench_select(c, "select a router", &routers, &reads);
        let set = replica_set(width);
        bench_select(c, "select a member by nearest", &set, &reads);
        let writes = SelectionCriteria::write();
        bench_select(c, "select a member for a write", &set, &writes);
        let tagged = SelectionCriteria::read(&demanding);
        bench_select(c, "select a member by tags and staleness", &set, &tagged);
    }
}

fn main() {
    let mut criterion = criterion(100, 300);
    hellos(&mut criterion);
    selections(&mut criterion);
    criterion.final_summary();
}
