//! Starting a deployment.

use std::io::Write as _;

use anyhow::{Context, Result};
use bson::rawdoc;
use tempfile::NamedTempFile;
use testbed::cluster::{Member, ReplicaSet, ReplicaSetOptions, Standalone};
use testbed::mongod::MongodOptions;
use testbed::router::{Face, Router};

use super::{Kind, Shape, probe};
use crate::unified::{Deployment, TopologyKind};

/// The only user of a deployment with access control; it may do everything.
const USER: &str = "root";
const PASSWORD: &str = "rootpw";

/// What the members of a set with access control prove to each other that they know.
const KEY: &[u8] = b"c3BlYy10ZXN0cyBvZiB0aGlzIHdvcmtzcGFjZQ==";

/// A deployment that runs until it is dropped.
#[derive(Debug)]
pub struct Running {
    deployment: Deployment,
    servers: Servers,
    /// What stands before the servers.
    routers: Vec<Router>,
}

#[derive(Debug)]
enum Servers {
    Set(ReplicaSet),
    Alone(Box<Standalone>),
}

impl Running {
    /// How to reach it, and what it is like.
    #[must_use]
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }
}

impl Kind {
    /// Starts one and waits until it can be used.
    ///
    /// # Errors
    /// A server cannot be obtained or started, or does not do what it is told.
    pub fn start(&self) -> Result<Running> {
        self.start_servers()
            .with_context(|| format!("cannot start: {}", self.name))
    }

    fn start_servers(&self) -> Result<Running> {
        // A server reads its key at the start only.
        let mut key = NamedTempFile::new()?;
        key.write_all(KEY)?;
        let mut options = MongodOptions::default();
        if self.auth {
            options.args.push("--auth".into());
            if self.shape != Shape::Standalone {
                options.args.extend(["--keyFile".into(), key.path().into()]);
            }
        }
        if self.accepts_api_version_2 {
            let parameter = ("acceptApiVersion2".to_owned(), "true".to_owned());
            options.parameters.push(parameter);
        }
        let (servers, mut uri) = match self.shape {
            Shape::Standalone => {
                let server = Standalone::start_with(self.version, options)?;
                let uri = server.uri();
                (Servers::Alone(Box::new(server)), uri)
            }
            Shape::ReplicaSet(_) | Shape::Sharded | Shape::LoadBalanced => {
                let set = ReplicaSetOptions {
                    version: self.version,
                    mongod: options,
                    ..ReplicaSetOptions::new(self.shape.members())
                };
                let set = set.start()?;
                let uri = set.uri();
                (Servers::Set(set), uri)
            }
        };
        if self.auth {
            add_user(servers.writable()?)?;
            uri = with_user(&uri);
        }
        let mut running = Running {
            deployment: probe(&uri)?,
            servers,
            routers: Vec::new(),
        };
        match self.shape {
            Shape::ReplicaSet(_) | Shape::Standalone => {}
            Shape::Sharded => running.behind_mongos()?,
            Shape::LoadBalanced => running.behind_load_balancer()?,
        }
        Ok(running)
    }
}

impl Shape {
    fn members(self) -> usize {
        match self {
            Self::ReplicaSet(members) => members,
            Self::Standalone | Self::Sharded | Self::LoadBalanced => 1,
        }
    }
}

impl Running {
    fn behind_mongos(&mut self) -> Result<()> {
        let first = self.add_router(Face::Mongos)?;
        let second = self.add_router(Face::Mongos)?;
        let single = format!("mongodb://{first}/");
        let multiple = format!("mongodb://{first},{second}/");
        self.look_like(TopologyKind::Sharded, single, multiple);
        Ok(())
    }

    fn behind_load_balancer(&mut self) -> Result<()> {
        let [single, multiple] = [1, 2].map(|services| -> Result<String> {
            let address = self.add_router(Face::LoadBalancer(services))?;
            Ok(format!("mongodb://{address}/?loadBalanced=true"))
        });
        self.look_like(TopologyKind::LoadBalanced, single?, multiple?);
        Ok(())
    }

    fn add_router(&mut self, face: Face) -> Result<String> {
        let router = Router::start(self.servers.writable()?.address(), face)?;
        let address = router.address();
        self.routers.push(router);
        Ok(address)
    }

    fn look_like(&mut self, topology: TopologyKind, single: String, multiple: String) {
        let deployment = &mut self.deployment;
        let [single, multiple] = match deployment.auth {
            true => [with_user(&single), with_user(&multiple)],
            false => [single, multiple],
        };
        deployment.topology = topology;
        deployment.uri.clone_from(&single);
        deployment.uri_single = Some(single);
        deployment.uri_multiple = Some(multiple);
    }
}

impl Servers {
    fn writable(&self) -> Result<&Member> {
        match self {
            Self::Set(set) => set.primary(),
            Self::Alone(server) => Ok(server.server()),
        }
    }
}

fn with_user(uri: &str) -> String {
    uri.replacen("mongodb://", &format!("mongodb://{USER}:{PASSWORD}@"), 1)
}

/// As long as there is no user, one may be made over loopback.
fn add_user(server: &Member) -> Result<()> {
    let command = rawdoc! {
        "createUser": USER, "pwd": PASSWORD, "roles": [{ "role": "root", "db": "admin" }],
    };
    server.run_command("admin", &command)?;
    Ok(())
}
