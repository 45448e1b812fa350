//! AWS credentials (Authentication specification, "Obtaining Credentials").

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::DateTime;
use serde::Deserialize;

use super::http::Request;
use super::{Surroundings, read_file};
use crate::auth::{AwsCredentials, AwsFault, CredentialCache, Expiring, Source};

/// How long a service may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

const STS: &str = "https://sts.amazonaws.com";
const ECS: &str = "http://169.254.170.2";
const EC2: &str = "http://169.254.169.254";

/// Where the roles of a virtual machine and their credentials are.
const EC2_ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// How many seconds the metadata service is asked to know us.
const EC2_SESSION_SECONDS: &str = "30";

type Given = Result<AwsCredentials, Box<dyn std::error::Error + Send + Sync>>;

/// What an application gives its credentials with.
#[derive(Clone)]
pub(crate) struct AwsProvider(
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Given> + Send>> + Send + Sync>,
);

impl AwsProvider {
    pub(crate) fn new<F, P, E>(provide: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<AwsCredentials, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(Arc::new(move || {
            let provided = provide();
            Box::pin(async { provided.await.map_err(Into::into) })
        }))
    }
}

impl fmt::Debug for AwsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsProvider")
    }
}

/// Who a client is to AWS.
#[derive(Debug, Default)]
pub(crate) struct AwsIdentity {
    provider: Option<AwsProvider>,
    surroundings: Surroundings,
    cache: Mutex<CredentialCache>,
}

impl AwsIdentity {
    pub(crate) fn new(provider: Option<AwsProvider>, surroundings: Surroundings) -> Self {
        Self {
            provider,
            surroundings,
            cache: Mutex::default(),
        }
    }

    /// The credentials to use now: the application's, else those that are kept, else those of the
    /// environment, else those that a service gives, which are kept.
    ///
    /// Connections that ask at the same time do not wait for each other.
    ///
    /// # Errors
    /// [`AwsFault::Credentials`] when nobody gives any.
    pub(crate) async fn credentials(&self) -> Result<AwsCredentials, AwsFault> {
        if let Some(AwsProvider(provide)) = &self.provider {
            let given = provide().await;
            return given.map_err(|error| none(format!("the application's provider: {error}")));
        }
        if let Some(kept) = self.cache().valid(DateTime::now()) {
            return Ok(kept);
        }
        let source = Source::choose(|name| self.surroundings.variable(name));
        let source = source.map_err(|missing| {
            none(format!(
                "{missing} is not set beside the other variables: set it or unset them"
            ))
        })?;
        let found = match source {
            Source::Environment(credentials) => return Ok(credentials),
            Source::WebIdentity {
                token_file,
                role_arn,
                session_name,
            } => self.web_identity(&token_file, role_arn, session_name).await,
            Source::Ecs { path } => self.ecs(&path).await,
            Source::Ec2 => self.ec2().await.map_err(|error| {
                format!(
                    "neither AWS_ACCESS_KEY_ID nor another source is in the environment; {error}"
                )
            }),
        };
        let found = found.map_err(none)?;
        self.cache().keep(found.clone());
        Ok(found.credentials)
    }

    /// An authentication failed, so that what is kept may be wrong.
    pub(crate) fn forget(&self) {
        self.cache().clear();
    }

    fn cache(&self) -> MutexGuard<'_, CredentialCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// "AssumeRoleWithWebIdentity".
    async fn web_identity(
        &self,
        token_file: &str,
        role_arn: String,
        session_name: Option<String>,
    ) -> Result<Expiring, String> {
        let token = read_file(token_file).await;
        let token = token.map_err(|error| format!("AWS_WEB_IDENTITY_TOKEN_FILE: {error}"))?;
        let session_name = match session_name {
            Some(name) => name,
            None => random_name()?,
        };
        let form = vec![
            ("Action", "AssumeRoleWithWebIdentity".to_owned()),
            ("Version", "2011-06-15".to_owned()),
            ("RoleSessionName", session_name),
            ("RoleArn", role_arn),
            ("WebIdentityToken", token.to_string()),
        ];
        let request = Request::post(self.surroundings.url(STS, "/"), form);
        let answer = request
            .header("Accept", "application/json")
            .send(LIMIT)
            .await?;
        let answer: StsAnswer = read(&answer)?;
        expiring(answer.into_credentials())
    }

    /// "ECS endpoint".
    async fn ecs(&self, path: &str) -> Result<Expiring, String> {
        let request = Request::get(self.surroundings.url(ECS, path));
        expiring(read(&request.send(LIMIT).await?)?)
    }

    /// "EC2 endpoint", version 2 of the metadata service.
    async fn ec2(&self) -> Result<Expiring, String> {
        const TOKEN: &str = "X-aws-ec2-metadata-token";
        let url = |path: &str| self.surroundings.url(EC2, path);
        let request = Request::put(url("/latest/api/token"));
        let request = request.header("X-aws-ec2-metadata-token-ttl-seconds", EC2_SESSION_SECONDS);
        let token = request.send(LIMIT).await?;
        let roles = Request::get(url(EC2_ROLES)).header(TOKEN, token.as_str());
        let roles = roles.send(LIMIT).await?;
        let role = roles.lines().next().unwrap_or_default().trim();
        if role.is_empty() {
            return Err("this virtual machine has no role: attach one".to_owned());
        }
        let request = Request::get(url(&format!("{EC2_ROLES}{role}")));
        let answer = request.header(TOKEN, token.as_str()).send(LIMIT).await?;
        expiring(read(&answer)?)
    }
}

/// What the services answer; only the Security Token Service says `SessionToken`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "SessionToken")]
    token: String,
    expiration: Expiration,
}

/// The Security Token Service counts seconds since 1970 in its JSON, the others write a date.
#[derive(Deserialize)]
#[serde(untagged)]
enum Expiration {
    Date(String),
    Seconds(f64),
}

/// The answer of the Security Token Service, as the specification shows it and as it comes.
#[derive(Deserialize)]
#[serde(untagged)]
enum StsAnswer {
    Plain(StsResult),
    Wrapped {
        #[serde(rename = "AssumeRoleWithWebIdentityResponse")]
        response: StsResponse,
    },
}

#[derive(Deserialize)]
struct StsResponse {
    #[serde(rename = "AssumeRoleWithWebIdentityResult")]
    result: StsResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StsResult {
    credentials: Answer,
}

impl StsAnswer {
    fn into_credentials(self) -> Answer {
        match self {
            Self::Plain(result) => result.credentials,
            Self::Wrapped { response } => response.result.credentials,
        }
    }
}

/// Says where something is wrong, and nothing of what is there.
fn read<'a, T: Deserialize<'a>>(answer: &'a str) -> Result<T, String> {
    serde_json::from_str(answer).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("the answer has no credentials (line {line}, column {column})")
    })
}

fn expiring(answer: Answer) -> Result<Expiring, String> {
    let expires = match answer.expiration {
        Expiration::Date(date) => {
            DateTime::parse_rfc3339_str(&date).map_err(|error| format!("Expiration: {error}"))?
        }
        Expiration::Seconds(seconds) => {
            let limit = Duration::try_from_secs_f64(seconds)
                .map_err(|error| format!("Expiration: {error}"))?;
            DateTime::from_millis(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX))
        }
    };
    let key = AwsCredentials::new(answer.access_key_id, answer.secret_access_key);
    let credentials = key.session_token(answer.token);
    Ok(Expiring {
        credentials,
        expires,
    })
}

fn random_name() -> Result<String, String> {
    let random = getrandom::u64().map_err(|error| error.to_string())?;
    Ok(format!("mongo-client-{random:016x}"))
}

fn none(reason: String) -> AwsFault {
    AwsFault::Credentials(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_each_of_their_forms() {
        let seconds = r#"{"AccessKeyId":"id","SecretAccessKey":"key","SessionToken":"token",
            "Expiration":1573086367.0}"#;
        let date = r#"{"Code":"Success","AccessKeyId":"id","SecretAccessKey":"key",
            "Token":"token","Expiration":"2019-11-07T00:26:07Z"}"#;
        let plain = format!(r#"{{"Credentials":{seconds}}}"#);
        let wrapped = format!(
            r#"{{"AssumeRoleWithWebIdentityResponse":
                {{"AssumeRoleWithWebIdentityResult":{plain}}}}}"#
        );
        let sts = |text: &str| read(text).map(StsAnswer::into_credentials);
        for (answer, text) in [
            (read(date), date),
            (sts(&plain), plain.as_str()),
            (sts(&wrapped), wrapped.as_str()),
        ] {
            let found = expiring(answer.unwrap()).unwrap();
            let expected = AwsCredentials::new("id", "key").session_token("token");
            assert_eq!(found.credentials, expected, "{text}");
            assert_eq!(
                found.expires.timestamp_millis(),
                1_573_086_367_000,
                "{text}"
            );
        }
    }

    #[test]
    fn an_answer_without_credentials_is_not_shown() {
        let text = r#"{"AccessKeyId":"id","SecretAccessKey":"hunter2"}"#;
        let error = read::<Answer>(text).err().unwrap();
        assert!(
            error.contains("no credentials") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
