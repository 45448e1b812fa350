//! The DNS seed list (Initial DNS Seedlist Discovery and Polling SRV Records specifications),
//! without DNS: the caller asks [`SrvQuestion`], this module judges the answer.

use std::collections::BTreeSet;
use std::time::Duration;

use thiserror::Error;

use crate::address::{self, ServerAddress};
use crate::connection_string::ConnectionString;
use crate::error::UriError;
use crate::grammar;
use crate::options;

/// The service that is asked for unless `srvServiceName` says otherwise.
pub const DEFAULT_SERVICE: &str = "mongodb";

/// Records are never asked for again sooner than that, whatever their time to live.
pub const MIN_RESCAN_INTERVAL: Duration = Duration::from_secs(60);

/// The names to ask DNS for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvQuestion {
    /// Name of the SRV records: `_mongodb._tcp.host`.
    pub srv: String,
    /// Name of the TXT record: the host.
    pub txt: String,
}

/// One SRV record; priority and weight are ignored by the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// The target host; a trailing dot does not matter.
    pub target: String,
    /// The target port.
    pub port: u16,
    /// How long the record may be kept.
    pub ttl: Duration,
}

/// One TXT record: its character strings in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxtRecord(pub Vec<Vec<u8>>);

/// Why the records cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SrvError {
    /// The connection string is no `mongodb+srv` one, so there is nothing to resolve.
    #[error("only a mongodb+srv:// connection string is resolved")]
    NotSrv,
    /// DNS knows no SRV record of that name.
    #[error("no SRV records for {name}: check the host name and srvServiceName")]
    NoRecords {
        /// The name that was asked for.
        name: String,
    },
    /// A record points outside the domain of the connection string, which could be an attack.
    #[error(
        "SRV record target {target} is outside the domain {domain}: it must not be connected to"
    )]
    ForeignTarget {
        /// The record's target.
        target: String,
        /// The domain that targets must belong to.
        domain: String,
    },
    /// A record names no usable host or port.
    #[error("SRV record target {target} is no host with a port")]
    BadTarget {
        /// The record's target.
        target: String,
    },
    /// More than one TXT record.
    #[error("more than one TXT record for {name}: only one is allowed")]
    SeveralTxtRecords {
        /// The name that was asked for.
        name: String,
    },
    /// A TXT record that is not UTF-8.
    #[error("the TXT record is not UTF-8")]
    TxtNotUtf8,
    /// The options in the TXT record cannot be read.
    #[error("the TXT record: {0}")]
    Txt(Box<UriError>),
    /// The TXT record holds an option that it must not.
    #[error(
        "option {option} is not allowed in a TXT record, only authSource, replicaSet and loadBalanced"
    )]
    TxtOption {
        /// The option's name.
        option: String,
    },
}

impl ConnectionString {
    /// What to ask DNS for; `None` for a `mongodb://` connection string.
    pub fn srv_question(&self) -> Option<SrvQuestion> {
        let host = self.srv_host.as_deref()?;
        let service = self
            .options
            .srv
            .service_name
            .as_deref()
            .unwrap_or(DEFAULT_SERVICE);
        Some(SrvQuestion {
            srv: format!("_{service}._tcp.{host}"),
            txt: host.to_owned(),
        })
    }

    /// The connection string that the records complete: `hosts` is filled, and the options of the
    /// TXT record stand where this connection string has none.
    ///
    /// With `srvMaxHosts` the hosts are a random choice, the same for the same `seed` and records.
    ///
    /// # Errors
    ///
    /// [`UriError::Srv`] if the records break a rule, and any other [`UriError`] if the completed
    /// connection string does, as in `loadBalanced=true` with more than one host.
    pub fn resolve(
        &self,
        records: &[SrvRecord],
        txt: &[TxtRecord],
        seed: u64,
    ) -> Result<Self, UriError> {
        let (Some(question), Some(domain)) = (self.srv_question(), SrvDomain::of(self)) else {
            return Err(SrvError::NotSrv.into());
        };
        if records.is_empty() {
            return Err(SrvError::NoRecords { name: question.srv }.into());
        }
        let hosts = records
            .iter()
            .map(|record| domain.verify(record))
            .collect::<Result<Vec<_>, _>>()?;
        let mut resolved = self.clone();
        resolved.merge_txt(&question.txt, txt)?;
        resolved.hosts = choose(distinct(hosts), self.max_hosts(), seed);
        resolved.rebuild()?;
        Ok(resolved)
    }

    /// What a later look at the SRV records means for a topology whose servers are `current`.
    ///
    /// Records that break a rule are left out and reported, never an error. With `srvMaxHosts`
    /// those of `current` that are still listed stay, and new ones are a random choice by `seed`.
    pub fn rescan(
        &self,
        records: &[SrvRecord],
        current: &BTreeSet<ServerAddress>,
        seed: u64,
    ) -> Rescan {
        let Some(domain) = SrvDomain::of(self) else {
            return Rescan::default();
        };
        let mut rescan = Rescan::default();
        let mut verified = Vec::new();
        for record in records {
            match domain.verify(record) {
                Ok(host) => {
                    verified.push(host);
                    let ttl = rescan.next.map_or(record.ttl, |next| next.min(record.ttl));
                    rescan.next = Some(ttl);
                }
                Err(error) => rescan.rejected.push(error),
            }
        }
        if verified.is_empty() {
            return rescan;
        }
        rescan.next = rescan.next.map(|ttl| ttl.max(MIN_RESCAN_INTERVAL));
        let verified = distinct(verified);
        let limit = self.max_hosts().unwrap_or(verified.len());
        let (mut kept, new): (Vec<_>, Vec<_>) = verified
            .into_iter()
            .partition(|host| current.contains(host));
        if kept.len() > limit {
            kept = choose(kept, Some(limit), seed);
        }
        let room = limit - kept.len();
        kept.extend(choose_at_most(new, room, seed));
        rescan.hosts = Some(kept.into_iter().collect());
        rescan
    }

    fn max_hosts(&self) -> Option<usize> {
        let limit = self.options.srv.max_hosts.filter(|limit| *limit > 0)?;
        usize::try_from(limit).ok()
    }

    /// Takes the options of the TXT record that this connection string does not have itself.
    fn merge_txt(&mut self, name: &str, records: &[TxtRecord]) -> Result<(), UriError> {
        let record = match records {
            [] => return Ok(()),
            [record] => record,
            _ => {
                return Err(SrvError::SeveralTxtRecords {
                    name: name.to_owned(),
                }
                .into());
            }
        };
        let text = String::from_utf8(record.0.concat()).map_err(|_| SrvError::TxtNotUtf8)?;
        let in_txt = |error| SrvError::Txt(Box::new(error));
        let pairs = grammar::options(&text).map_err(in_txt)?;
        let allowed = ["authSource", "replicaSet", "loadBalanced"];
        let is_allowed = |name: &str| allowed.iter().any(|known| known.eq_ignore_ascii_case(name));
        if let Some(pair) = pairs.iter().find(|pair| !is_allowed(&pair.name)) {
            return Err(SrvError::TxtOption {
                option: pair.name.clone(),
            }
            .into());
        }
        let (options, warnings) = options::read(&pairs).map_err(in_txt)?;
        self.warnings.extend(warnings);
        let own = &mut self.options;
        own.auth.source = own.auth.source.take().or(options.auth.source);
        own.replica_set = own.replica_set.take().or(options.replica_set);
        own.load_balanced = own.load_balanced.or(options.load_balanced);
        Ok(())
    }
}

/// What a rescan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescan {
    /// The servers the topology should have now; `None` leaves it as it is, for nothing valid was
    /// found.
    pub hosts: Option<BTreeSet<ServerAddress>>,
    /// The records that break a rule, to be logged.
    pub rejected: Vec<SrvError>,
    /// When to look again, by the records' time to live; `None` for a heartbeat, because nothing
    /// valid was found.
    pub next: Option<Duration>,
}

/// The domain that targets must lie in.
struct SrvDomain<'a>(&'a str);

impl<'a> SrvDomain<'a> {
    fn of(uri: &'a ConnectionString) -> Option<Self> {
        let host = uri.srv_host.as_deref()?;
        if let Some(suffix) = &uri.options.srv.allowed_hosts_suffix {
            return Some(Self(suffix));
        }
        // With three labels or more the first is the subdomain; else the whole name is the domain.
        Some(match host.split_once('.') {
            Some((_, parent)) if parent.contains('.') => Self(parent),
            _ => Self(host),
        })
    }

    /// Takes the target if it lies below the domain; the domain itself does not.
    fn verify(&self, record: &SrvRecord) -> Result<ServerAddress, SrvError> {
        let target = record
            .target
            .strip_suffix('.')
            .unwrap_or(&record.target)
            .to_lowercase();
        if address::check_host(&target).is_err() || target.starts_with('[') || record.port == 0 {
            return Err(SrvError::BadTarget { target });
        }
        let below = target
            .strip_suffix(self.0)
            .and_then(|rest| rest.strip_suffix('.'));
        match below {
            Some(labels) if !labels.is_empty() => Ok(ServerAddress::tcp(&target, record.port)),
            _ => Err(SrvError::ForeignTarget {
                target,
                domain: self.0.to_owned(),
            }),
        }
    }
}

/// The hosts without repetitions, in their order.
fn distinct(hosts: Vec<ServerAddress>) -> Vec<ServerAddress> {
    let mut seen = BTreeSet::new();
    hosts
        .into_iter()
        .filter(|host| seen.insert(host.clone()))
        .collect()
}

/// All hosts, or a random choice if there are more than `limit`.
fn choose(hosts: Vec<ServerAddress>, limit: Option<usize>, seed: u64) -> Vec<ServerAddress> {
    choose_at_most(hosts, limit.unwrap_or(usize::MAX), seed)
}

/// The head of a Fisher-Yates shuffle.
fn choose_at_most(mut hosts: Vec<ServerAddress>, limit: usize, seed: u64) -> Vec<ServerAddress> {
    if hosts.len() <= limit {
        return hosts;
    }
    let mut random = SplitMix64(seed);
    for index in 0..limit {
        let other = index + random.below(hosts.len() - index);
        hosts.swap(index, other);
    }
    hosts.truncate(limit);
    hosts
}

/// A small generator, good enough to spread clients over hosts and the same on every machine.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is above zero.
    fn below(&mut self, bound: usize) -> usize {
        let scaled = (u128::from(self.next()) * (bound as u128)) >> 64;
        usize::try_from(scaled).expect("the product is below bound")
    }
}

#[cfg(test)]
mod tests;
