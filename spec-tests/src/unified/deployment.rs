//! What a case runs against.

use std::sync::Arc;

use testbed::mongod::Version;

use super::{Document, Wrapper};

/// The kind of a deployment, of those that `runOnRequirements` tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopologyKind {
    /// One server outside any replica set.
    Single,
    /// A replica set.
    ReplicaSet,
    /// Mongos servers.
    Sharded,
    /// Mongos servers behind a load balancer.
    LoadBalanced,
}

/// A running deployment, which the runner talks to with clients of its own.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The connection string of an ordinary client, credentials and all.
    pub uri: String,
    /// Sharded or load-balanced: the connection string that reaches a single mongos, for
    /// `useMultipleMongoses: false`. `None` where `uri` is as good.
    pub uri_single: Option<String>,
    /// Sharded or load-balanced: the connection string that reaches several, for
    /// `useMultipleMongoses: true`. `None` if there is only one.
    pub uri_multiple: Option<String>,
    /// Which kind it is.
    pub topology: TopologyKind,
    /// The version of its servers.
    pub server_version: Version,
    /// Whether its servers want clients to authenticate.
    pub auth: bool,
    /// The reply to `getParameter: "*"`.
    pub server_parameters: Document,
}

/// What a run adds to each case.
#[derive(Clone, Debug, Default)]
pub struct ExtraOptions {
    /// Options for the connection string of every client, such as `compressors`; those that a case
    /// gives itself win.
    pub uri_options: Vec<(String, String)>,
    /// Stands between every client and the runner.
    pub wrapper: Option<Arc<dyn Wrapper>>,
}
