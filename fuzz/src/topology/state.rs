//! What holds for every description, whatever led to it.

use mongo_topology::{
    Operation, Rng, SelectionCriteria, SelectionError, ServerDescription, ServerType as S,
    TopologyDescription, TopologyType as T,
};
use mongo_uri::{ReadPreference, ReadPreferenceMode};

/// The types fit each other.
pub(super) fn check(description: &TopologyDescription) {
    let servers = &description.servers;
    let primaries = servers.of_type(S::RsPrimary).count();
    assert!(primaries <= 1, "{description}");
    let allowed: &[S] = match description.topology_type {
        T::Unknown => &[S::Unknown, S::RsGhost],
        T::Single => {
            assert_eq!(servers.len(), 1, "{description}");
            return;
        }
        T::ReplicaSetNoPrimary => {
            assert_eq!(primaries, 0, "{description}");
            &[
                S::Unknown,
                S::RsGhost,
                S::RsSecondary,
                S::RsArbiter,
                S::RsOther,
            ]
        }
        T::ReplicaSetWithPrimary => {
            assert_eq!(primaries, 1, "{description}");
            &[
                S::Unknown,
                S::RsGhost,
                S::RsPrimary,
                S::RsSecondary,
                S::RsArbiter,
                S::RsOther,
            ]
        }
        // A ghost that was there before the first router leaves at its next check.
        T::Sharded => &[S::Unknown, S::Mongos, S::RsGhost],
        T::LoadBalanced => {
            assert_eq!(servers.len(), 1, "{description}");
            &[S::LoadBalancer]
        }
    };
    for server in servers {
        assert!(allowed.contains(&server.server_type()), "{description}");
        let is_known = server.server_type() != S::Unknown;
        assert!(!is_known || server.error().is_none(), "{description}");
        if let Some(name) = server.set_name() {
            assert_eq!(Some(name), description.set_name.as_deref(), "{description}");
        }
    }
    assert!(servers.addresses().is_sorted());
    assert_eq!(description.to_string().lines().count(), servers.len() + 1);
}

/// What is selected may serve, and a refusal tells why.
pub(super) fn check_selection(
    description: &TopologyDescription,
    preference: &ReadPreference,
    rng: &mut Rng,
) {
    let reads = SelectionCriteria::read(preference);
    let first = description.servers.addresses().next().cloned();
    let avoided: Vec<_> = first.into_iter().collect();
    for criteria in [
        reads,
        reads.deprioritizing(&avoided),
        SelectionCriteria::write(),
    ] {
        let suitable = description.suitable(&criteria);
        let near = description.in_latency_window(&criteria);
        let chosen = description.select(&criteria, |address| address.to_string().len() as u32, rng);
        match (suitable, near, chosen) {
            (Ok(suitable), Ok(near), Ok(chosen)) => {
                let is_in = |list: &[&_]| list.iter().any(|one| std::ptr::eq(*one, chosen));
                assert!(is_in(&suitable) && is_in(&near) && near.len() <= suitable.len());
                assert!(
                    may_serve(description, chosen, &criteria),
                    "{description}\n{criteria}"
                );
            }
            (Err(one), Err(two), Err(three)) => {
                assert!(one == two && two == three && !one.to_string().is_empty());
                if let SelectionError::Incompatible(_) = one {
                    assert!(!description.is_compatible());
                }
            }
            (suitable, near, chosen) => panic!("{suitable:?}\n{near:?}\n{chosen:?}"),
        }
    }
}

fn may_serve(
    description: &TopologyDescription,
    server: &ServerDescription,
    criteria: &SelectionCriteria<'_>,
) -> bool {
    match (description.topology_type, server.server_type()) {
        (T::Single, server_type) => server_type != S::Unknown,
        (T::Sharded, server_type) => server_type == S::Mongos,
        (T::LoadBalanced, server_type) => server_type == S::LoadBalancer,
        (_, S::RsPrimary) => match criteria.operation {
            Operation::Read(preference) => preference.mode != ReadPreferenceMode::Secondary,
            Operation::Write => true,
        },
        (_, S::RsSecondary) => match criteria.operation {
            Operation::Read(preference) => preference.mode != ReadPreferenceMode::Primary,
            Operation::Write => false,
        },
        _ => false,
    }
}
