//! AWS credentials: what they are, where they come from, and how long they are kept
//! (Authentication specification, "Obtaining Credentials").

use bson::DateTime;
use mongo_uri::Secret;

/// Credentials are used no more when they expire within so many milliseconds: by the time that AWS
/// looks at them they might be too old.
const MARGIN_MILLIS: i64 = 5 * 60 * 1000;

/// Who a client is to AWS. `Debug` shows neither the key nor the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsCredentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: Secret,
    pub(super) session_token: Option<Secret>,
}

impl AwsCredentials {
    /// An access key, which does not expire.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: Secret::new(secret_access_key),
            session_token: None,
        }
    }

    /// Temporary credentials have such a token beside their key.
    #[must_use]
    pub fn session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(Secret::new(token));
        self
    }

    /// Not the secret part of the key.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }
}

/// Credentials that one of AWS's services has given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expiring {
    pub(crate) credentials: AwsCredentials,
    pub(crate) expires: DateTime,
}

/// A client's last credentials.
#[derive(Debug, Default)]
pub(crate) struct CredentialCache(Option<Expiring>);

impl CredentialCache {
    /// The credentials, unless they expire soon.
    pub(crate) fn valid(&self, now: DateTime) -> Option<AwsCredentials> {
        let limit = now.timestamp_millis().saturating_add(MARGIN_MILLIS);
        let kept = self.0.as_ref()?;
        (kept.expires.timestamp_millis() > limit).then(|| kept.credentials.clone())
    }

    pub(crate) fn keep(&mut self, credentials: Expiring) {
        self.0 = Some(credentials);
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

/// Where credentials are to be had, if the application gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The environment has them.
    Environment(AwsCredentials),
    /// The Security Token Service gives them for the token in a file.
    WebIdentity {
        token_file: String,
        role_arn: String,
        session_name: Option<String>,
    },
    /// The container's agent gives them, at this path.
    Ecs { path: String },
    /// The virtual machine's metadata service gives them.
    Ec2,
}

impl Source {
    /// "Credential Fetching Order". A variable that is empty counts as one that is not set.
    ///
    /// # Errors
    /// The variable that is missing beside others that are set.
    pub(crate) fn choose(variable: impl Fn(&str) -> Option<String>) -> Result<Self, &'static str> {
        let id = variable("AWS_ACCESS_KEY_ID");
        let key = variable("AWS_SECRET_ACCESS_KEY");
        let token = variable("AWS_SESSION_TOKEN");
        match (id, key, token) {
            (Some(id), Some(key), token) => {
                let credentials = AwsCredentials::new(id, key);
                return Ok(Self::Environment(match token {
                    Some(token) => credentials.session_token(token),
                    None => credentials,
                }));
            }
            (Some(_), None, _) => return Err("AWS_SECRET_ACCESS_KEY"),
            (None, Some(_), _) | (None, None, Some(_)) => return Err("AWS_ACCESS_KEY_ID"),
            (None, None, None) => {}
        }
        let role = (
            variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
            variable("AWS_ROLE_ARN"),
        );
        if let (Some(token_file), Some(role_arn)) = role {
            return Ok(Self::WebIdentity {
                token_file,
                role_arn,
                session_name: variable("AWS_ROLE_SESSION_NAME"),
            });
        }
        Ok(match variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            Some(path) => Self::Ecs { path },
            None => Self::Ec2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(set: &[(&str, &str)]) -> Result<Source, &'static str> {
        Source::choose(|name| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn sources_are_tried_in_the_order_of_the_specification() {
        let all = [
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "key"),
            ("AWS_SESSION_TOKEN", "token"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "file"),
            ("AWS_ROLE_ARN", "arn"),
            ("AWS_ROLE_SESSION_NAME", "name"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/path"),
        ];
        let key = AwsCredentials::new("id", "key");
        let web = |name: Option<&str>| Source::WebIdentity {
            token_file: "file".to_owned(),
            role_arn: "arn".to_owned(),
            session_name: name.map(str::to_owned),
        };
        let ecs = Source::Ecs {
            path: "/path".to_owned(),
        };
        let environment = Source::Environment(key.clone().session_token("token"));
        for (set, expected) in [
            (&all[..], Ok(environment)),
            (&all[..2], Ok(Source::Environment(key))),
            (&all[3..], Ok(web(Some("name")))),
            (&all[3..5], Ok(web(None))),
            (&all[4..], Ok(ecs.clone())),
            (&all[6..], Ok(ecs)),
            (&[], Ok(Source::Ec2)),
            (&all[..1], Err("AWS_SECRET_ACCESS_KEY")),
            (&all[1..], Err("AWS_ACCESS_KEY_ID")),
            (&all[2..], Err("AWS_ACCESS_KEY_ID")),
        ] {
            assert_eq!(choose(set), expected, "{set:?}");
        }
    }

    #[test]
    fn credentials_are_kept_until_five_minutes_before_they_expire() {
        let at = DateTime::from_millis;
        let mut cache = CredentialCache::default();
        assert_eq!(cache.valid(at(0)), None);
        let credentials = AwsCredentials::new("id", "key");
        cache.keep(Expiring {
            credentials: credentials.clone(),
            expires: at(1_000_000),
        });
        for (now, expected) in [
            (0, true),
            (699_999, true),
            (700_000, false),
            (1_000_001, false),
            (i64::MAX, false),
        ] {
            let found = cache.valid(at(now));
            assert_eq!(found, expected.then(|| credentials.clone()), "{now}");
        }
        cache.clear();
        assert_eq!(cache.valid(at(0)), None);
    }

    #[test]
    fn neither_key_nor_token_is_shown() {
        let credentials = AwsCredentials::new("AKID", "hunter2").session_token("hunter2");
        let shown = format!("{credentials:?}");
        assert!(
            shown.contains("AKID") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
