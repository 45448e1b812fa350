//! Which servers may learn a human's token: `ALLOWED_HOSTS`.

use mongo_uri::ServerAddress;

/// What the specification allows unless the application says something else.
const DEFAULT: [&str; 8] = [
    "*.mongodb.net",
    "*.mongodb-qa.net",
    "*.mongodb-dev.net",
    "*.mongodbgov.net",
    "localhost",
    "127.0.0.1",
    "::1",
    "*.mongo.com",
];

/// Names and addresses of hosts; `*.` at the beginning stands for any number of labels but none.
#[derive(Clone, Debug)]
pub(crate) struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    pub(crate) fn new(hosts: impl IntoIterator<Item = String>) -> Self {
        Self(hosts.into_iter().map(|host| host.to_lowercase()).collect())
    }

    /// The port does not matter. A unix socket has no host.
    pub(crate) fn allow(&self, server: &ServerAddress) -> bool {
        let ServerAddress::Tcp { host, .. } = server else {
            return false;
        };
        let host = host.to_lowercase();
        self.0
            .iter()
            .any(|allowed| match allowed.strip_prefix('*') {
                Some(domain) if domain.starts_with('.') => {
                    host.len() > domain.len() && host.ends_with(domain)
                }
                _ => host == *allowed,
            })
    }
}

impl Default for AllowedHosts {
    fn default() -> Self {
        Self::new(DEFAULT.map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(hosts: &[&str], host: &str) -> bool {
        let hosts = AllowedHosts::new(hosts.iter().map(|host| (*host).to_owned()));
        hosts.allow(&ServerAddress::tcp(host, 27017))
    }

    #[test]
    fn only_whole_labels_and_whole_names_match() {
        for (pattern, host, expected) in [
            ("*.a.net", "x.a.net", true),
            ("*.a.net", "x.y.A.net", true),
            ("*.A.net", "x.a.net", true),
            ("*.a.net", "a.net", false),
            ("*.a.net", ".a.net", false),
            ("*.a.net", "xa.net", false),
            ("*.a.net", "x.a.net.evil", false),
            ("a.net", "a.net", true),
            ("a.net", "x.a.net", false),
            ("*", "a.net", false),
            ("*a.net", "xa.net", false),
            ("::1", "::1", true),
            ("", "a.net", false),
        ] {
            assert_eq!(allows(&[pattern], host), expected, "{pattern} {host}");
        }
        assert!(!allows(&[], "localhost"));
    }

    #[test]
    fn by_default_atlas_and_this_machine_are_allowed() {
        let hosts = AllowedHosts::default();
        let allow = |host| hosts.allow(&ServerAddress::tcp(host, 1));
        for host in [
            "localhost",
            "127.0.0.1",
            "::1",
            "c.x.mongodb.net",
            "a.mongo.com",
        ] {
            assert!(allow(host), "{host}");
        }
        for host in ["mongodb.net", "127.0.0.2", "evilmongodb.net", "example.com"] {
            assert!(!allow(host), "{host}");
        }
        assert!(!hosts.allow(&ServerAddress::unix("/tmp/localhost")));
    }
}
