//! What a client says of itself (Handshake specification, "client"): a pure function of the
//! application's name, the libraries that wrap this one and the [`Environment`].

use std::collections::BTreeMap;

use bson::{RawDocumentBuf, cstr, rawdoc};

use crate::error::Misuse;

/// The longest `client` document that servers accept, in bytes of BSON.
const MAX_METADATA_LEN: usize = 512;

/// `client.platform`, before what wrapping libraries add.
const PLATFORM: &str = "Rust";

/// What stands between the values of wrapping libraries.
const SEPARATOR: char = '|';

/// What a library that wraps this one says of itself; see
/// [`Client::append_metadata`](crate::Client::append_metadata). An empty text is as good as none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverInfo {
    /// The library's name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// What it runs on.
    pub platform: Option<String>,
}

impl DriverInfo {
    fn version(&self) -> &str {
        self.version.as_deref().unwrap_or_default()
    }

    fn platform(&self) -> &str {
        self.platform.as_deref().unwrap_or_default()
    }

    fn values(&self) -> [&str; 3] {
        [&self.name, self.version(), self.platform()]
    }
}

/// What a client says of itself, and can be told to add to.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    app_name: Option<String>,
    environment: Environment,
    wrappers: Vec<DriverInfo>,
    document: RawDocumentBuf,
}

impl Metadata {
    pub(crate) fn new(app_name: Option<&str>, environment: &Environment) -> Self {
        Self {
            app_name: app_name.map(str::to_owned),
            environment: environment.clone(),
            wrappers: Vec::new(),
            document: client_metadata(app_name, &[], environment),
        }
    }

    pub(crate) fn document(&self) -> &RawDocumentBuf {
        &self.document
    }

    /// Adds a library, unless the same was added before.
    ///
    /// # Errors
    /// [`Misuse::Metadata`], and nothing has changed, when a value holds the separator or the
    /// whole would be longer than servers accept.
    pub(crate) fn append(&mut self, wrapper: DriverInfo) -> Result<(), Misuse> {
        if wrapper.values().iter().any(|v| v.contains(SEPARATOR)) {
            let reason = "a value contains |";
            return Err(Misuse::Metadata { reason });
        }
        if self.wrappers.iter().any(|w| w.values() == wrapper.values()) {
            return Ok(());
        }
        self.wrappers.push(wrapper);
        let name = self.app_name.as_deref();
        let document = client_metadata(name, &self.wrappers, &self.environment);
        if document.as_bytes().len() > MAX_METADATA_LEN {
            self.wrappers.pop();
            let reason = "the names and versions together are too long for servers to accept";
            return Err(Misuse::Metadata { reason });
        }
        self.document = document;
        Ok(())
    }
}

/// Where the process runs, as data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// As `uname -s` has it; empty when unknown.
    pub(crate) os_type: String,
    pub(crate) os_name: Option<String>,
    pub(crate) os_version: Option<String>,
    pub(crate) architecture: String,
    /// The environment variables, of which those in [`VARIABLES`] are looked at.
    pub(crate) variables: BTreeMap<&'static str, String>,
    /// Whether there is a file `/.dockerenv`.
    pub(crate) has_dockerenv: bool,
}

/// The environment variables that say something about where the process runs.
pub(crate) const VARIABLES: [&str; 13] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "FUNCTIONS_WORKER_RUNTIME",
    "K_SERVICE",
    "FUNCTION_NAME",
    "FUNCTION_MEMORY_MB",
    "FUNCTION_TIMEOUT_SEC",
    "FUNCTION_REGION",
    "VERCEL",
    "VERCEL_REGION",
    "KUBERNETES_SERVICE_HOST",
];

/// A platform that runs functions, and freezes processes between calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provider {
    AwsLambda,
    AzureFunctions,
    GcpFunctions,
    Vercel,
}

impl Provider {
    fn name(self) -> &'static str {
        match self {
            Self::AwsLambda => "aws.lambda",
            Self::AzureFunctions => "azure.func",
            Self::GcpFunctions => "gcp.func",
            Self::Vercel => "vercel",
        }
    }

    /// The variables of `timeout_sec`, `memory_mb` and `region`; a provider has not all of them.
    fn details(self) -> [&'static str; 3] {
        match self {
            Self::AwsLambda => ["", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_REGION"],
            Self::AzureFunctions => ["", "", ""],
            Self::GcpFunctions => [
                "FUNCTION_TIMEOUT_SEC",
                "FUNCTION_MEMORY_MB",
                "FUNCTION_REGION",
            ],
            Self::Vercel => ["", "", "VERCEL_REGION"],
        }
    }
}

impl Environment {
    /// Whether monitors should poll, as a process that is frozen misses what is streamed to it.
    pub(crate) fn is_faas(&self) -> bool {
        self.provider().is_some()
    }

    /// An empty variable is as good as none.
    fn variable(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// The one provider whose variables are there. Vercel runs on AWS and has both; any other two
    /// contradict each other, and then none counts.
    fn provider(&self) -> Option<Provider> {
        let is_set = |name| self.variable(name).is_some();
        let runs_lambda = self
            .variable("AWS_EXECUTION_ENV")
            .is_some_and(|value| value.starts_with("AWS_Lambda_"));
        let is_vercel = is_set("VERCEL");
        let found = [
            (is_vercel, Provider::Vercel),
            (
                (runs_lambda || is_set("AWS_LAMBDA_RUNTIME_API")) && !is_vercel,
                Provider::AwsLambda,
            ),
            (is_set("FUNCTIONS_WORKER_RUNTIME"), Provider::AzureFunctions),
            (
                is_set("K_SERVICE") || is_set("FUNCTION_NAME"),
                Provider::GcpFunctions,
            ),
        ];
        let mut found = found.into_iter().filter(|(found, _)| *found);
        match (found.next(), found.next()) {
            (Some((_, provider)), None) => Some(provider),
            _ => None,
        }
    }

    /// `env`: the function's platform and the container, or only the platform's name.
    fn env(&self, name_only: bool) -> RawDocumentBuf {
        let mut env = RawDocumentBuf::new();
        let provider = self.provider();
        if let Some(provider) = provider {
            env.append(cstr!("name"), provider.name());
        }
        if name_only {
            return env;
        }
        if let Some([timeout, memory, region]) = provider.map(Provider::details) {
            let number = |name| self.variable(name)?.parse::<i32>().ok();
            if let Some(seconds) = number(timeout) {
                env.append(cstr!("timeout_sec"), seconds);
            }
            if let Some(megabytes) = number(memory) {
                env.append(cstr!("memory_mb"), megabytes);
            }
            if let Some(region) = self.variable(region) {
                env.append(cstr!("region"), region);
            }
        }
        let mut container = RawDocumentBuf::new();
        if self.has_dockerenv {
            container.append(cstr!("runtime"), "docker");
        }
        if self.variable("KUBERNETES_SERVICE_HOST").is_some() {
            container.append(cstr!("orchestrator"), "kubernetes");
        }
        if !container.is_empty() {
            env.append(cstr!("container"), container);
        }
        env
    }

    fn os(&self, type_only: bool) -> RawDocumentBuf {
        let os_type = Some(self.os_type.as_str()).filter(|name| !name.is_empty());
        let mut os = rawdoc! { "type": os_type.unwrap_or("unknown") };
        if type_only {
            return os;
        }
        if let Some(name) = &self.os_name {
            os.append(cstr!("name"), name.as_str());
        }
        os.append(cstr!("architecture"), self.architecture.as_str());
        if let Some(version) = &self.os_version {
            os.append(cstr!("version"), version.as_str());
        }
        os
    }
}

/// How much is left out: what each step leaves out stays out in the next.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Cut {
    Nothing,
    EnvDetails,
    OsDetails,
    Env,
}

/// Name, driver, system, platform and environment, cut in the specification's order until servers
/// accept it, which only overlong names of libraries can prevent.
fn client_metadata(
    app_name: Option<&str>,
    wrappers: &[DriverInfo],
    environment: &Environment,
) -> RawDocumentBuf {
    let joined = |own: &str, of: fn(&DriverInfo) -> &str| {
        let added = wrappers.iter().map(of).filter(|value| !value.is_empty());
        let all: Vec<_> = std::iter::once(own).chain(added).collect();
        all.join("|")
    };
    let name = joined("mongo-client", |wrapper| &wrapper.name);
    let version = joined(env!("CARGO_PKG_VERSION"), DriverInfo::version);
    let driver = rawdoc! { "name": name, "version": version };
    let platform = &joined(PLATFORM, DriverInfo::platform);
    let write = |cut, platform: &str| {
        let mut metadata = RawDocumentBuf::new();
        if let Some(name) = app_name {
            metadata.append(cstr!("application"), rawdoc! { "name": name });
        }
        metadata.append(cstr!("driver"), driver.clone());
        metadata.append(cstr!("os"), environment.os(cut >= Cut::OsDetails));
        if !platform.is_empty() {
            metadata.append(cstr!("platform"), platform);
        }
        let env = environment.env(cut >= Cut::EnvDetails);
        if cut < Cut::Env && !env.is_empty() {
            metadata.append(cstr!("env"), env);
        }
        metadata
    };
    for cut in [Cut::Nothing, Cut::EnvDetails, Cut::OsDetails, Cut::Env] {
        let document = write(cut, platform);
        if document.as_bytes().len() <= MAX_METADATA_LEN {
            return document;
        }
    }
    let excess = write(Cut::Env, platform).as_bytes().len() - MAX_METADATA_LEN;
    let mut end = platform.len().saturating_sub(excess);
    while !platform.is_char_boundary(end) {
        end -= 1;
    }
    write(Cut::Env, &platform[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables<'a> = &'a [(&'static str, &'a str)];

    fn with(variables: Variables<'_>) -> Environment {
        Environment {
            os_type: "Linux".to_owned(),
            os_name: Some("Some Linux 12".to_owned()),
            os_version: Some("12".to_owned()),
            architecture: "x86_64".to_owned(),
            variables: variables
                .iter()
                .map(|&(name, value)| (name, value.to_owned()))
                .collect(),
            has_dockerenv: false,
        }
    }

    /// A library that adds a platform and nothing else.
    fn on(platform: &str) -> DriverInfo {
        DriverInfo {
            platform: Some(platform.to_owned()),
            ..DriverInfo::default()
        }
    }

    fn env(environment: &Environment) -> Option<RawDocumentBuf> {
        let metadata = client_metadata(None, &[], environment);
        metadata.get_document("env").ok().map(ToOwned::to_owned)
    }

    const LAMBDA: (&str, &str) = ("AWS_EXECUTION_ENV", "AWS_Lambda_java8");

    #[test]
    fn the_environment_is_told_as_the_variables_say() {
        let kubernetes = rawdoc! { "orchestrator": "kubernetes" };
        let long = "a".repeat(512);
        let too_long = [LAMBDA, ("AWS_REGION", long.as_str())];
        let table: Vec<(Variables<'_>, Option<RawDocumentBuf>)> = vec![
            (&[], None),
            (
                &[
                    LAMBDA,
                    ("AWS_REGION", "us-east-2"),
                    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024"),
                ],
                Some(rawdoc! { "name": "aws.lambda", "memory_mb": 1024, "region": "us-east-2" }),
            ),
            (
                &[("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")],
                Some(rawdoc! { "name": "aws.lambda" }),
            ),
            (
                &[("FUNCTIONS_WORKER_RUNTIME", "node")],
                Some(rawdoc! { "name": "azure.func" }),
            ),
            (
                &[
                    ("K_SERVICE", "servicename"),
                    ("FUNCTION_MEMORY_MB", "1024"),
                    ("FUNCTION_TIMEOUT_SEC", "60"),
                    ("FUNCTION_REGION", "us-central1"),
                ],
                Some(rawdoc! {
                    "name": "gcp.func", "timeout_sec": 60, "memory_mb": 1024,
                    "region": "us-central1",
                }),
            ),
            (
                &[("FUNCTION_NAME", "f")],
                Some(rawdoc! { "name": "gcp.func" }),
            ),
            (
                &[("VERCEL", "1"), ("VERCEL_REGION", "cdg1")],
                Some(rawdoc! { "name": "vercel", "region": "cdg1" }),
            ),
            // Vercel wins over Lambda, which it runs on; any other two are none.
            (
                &[("VERCEL", "1"), LAMBDA],
                Some(rawdoc! { "name": "vercel" }),
            ),
            (&[LAMBDA, ("FUNCTIONS_WORKER_RUNTIME", "node")], None),
            (&[("VERCEL", "1"), ("K_SERVICE", "s")], None),
            (
                &[LAMBDA, ("K_SERVICE", "s"), ("KUBERNETES_SERVICE_HOST", "1")],
                Some(rawdoc! { "container": kubernetes.clone() }),
            ),
            // Too long for the limit, of the wrong type, of another use of AWS, empty.
            (&too_long, Some(rawdoc! { "name": "aws.lambda" })),
            (
                &[LAMBDA, ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "big")],
                Some(rawdoc! { "name": "aws.lambda" }),
            ),
            (&[("AWS_EXECUTION_ENV", "EC2")], None),
            (&[("VERCEL", "")], None),
            (
                &[
                    LAMBDA,
                    ("AWS_REGION", "us-east-2"),
                    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024"),
                    ("KUBERNETES_SERVICE_HOST", "1"),
                ],
                Some(rawdoc! {
                    "name": "aws.lambda", "memory_mb": 1024, "region": "us-east-2",
                    "container": kubernetes,
                }),
            ),
        ];
        for (variables, expected) in table {
            let environment = with(variables);
            assert_eq!(env(&environment), expected, "{variables:?}");
            let named = expected.is_some_and(|env| env.get("name").unwrap().is_some());
            assert_eq!(environment.is_faas(), named, "{variables:?}");
        }
    }

    #[test]
    fn docker_is_told_by_its_file() {
        let mut environment = with(&[]);
        environment.has_dockerenv = true;
        let expected = rawdoc! { "container": { "runtime": "docker" } };
        assert_eq!(env(&environment), Some(expected));
    }

    #[test]
    fn too_much_is_cut_in_the_specified_order() {
        let name = "n".repeat(128);
        let mut environment = with(&[LAMBDA, ("AWS_REGION", "us-east-2")]);
        let parts = |environment: &Environment, platform: &str| {
            let metadata = client_metadata(Some(&name), &[on(platform)], environment);
            assert!(metadata.as_bytes().len() <= MAX_METADATA_LEN);
            let has = |key: &str, inner: &str| {
                let document = metadata.get_document(key);
                document.is_ok_and(|document| document.get(inner).unwrap().is_some())
            };
            let platform = metadata.get_str("platform").map_or(0, str::len);
            let (region, os) = (has("env", "region"), has("os", "architecture"));
            assert!(has("os", "type") && has("driver", "version"));
            (region, os, has("env", "name"), platform)
        };
        // Each step of the order, with a platform that needs just that.
        for (length, expected) in [
            (4, (true, true, true, 9)),
            (135, (false, true, true, 140)),
            (195, (false, false, true, 200)),
            (245, (false, false, false, 250)),
        ] {
            assert_eq!(
                parts(&environment, &"p".repeat(length)),
                expected,
                "{length}"
            );
        }
        let (.., cut) = parts(&environment, &"p".repeat(1000));
        assert!((200..512).contains(&cut), "{cut}");
        // Cut between characters, not within one.
        environment.os_type = "Linux+".to_owned();
        for offset in 0..3 {
            let platform = format!("{}{}", "p".repeat(offset), "\u{2168}".repeat(300));
            let (.., cut) = parts(&environment, &platform);
            assert_eq!((cut - "Rust|".len() - offset) % 3, 0);
        }
    }

    #[test]
    fn an_unknown_system_is_called_so() {
        let metadata = client_metadata(None, &[], &Environment::default());
        let os = metadata.get_document("os").unwrap();
        assert_eq!(os.get_str("type").unwrap(), "unknown");
        assert!(metadata.get("application").unwrap().is_none());
    }

    fn info(name: &str, version: &str, platform: &str) -> DriverInfo {
        DriverInfo {
            name: name.to_owned(),
            version: Some(version.to_owned()),
            platform: Some(platform.to_owned()),
        }
    }

    fn shown(metadata: &Metadata) -> [String; 3] {
        let driver = metadata.document().get_document("driver").unwrap();
        let platform = metadata.document().get_str("platform").unwrap();
        [
            driver.get_str("name").unwrap().to_owned(),
            driver.get_str("version").unwrap().to_owned(),
            platform.to_owned(),
        ]
    }

    #[test]
    fn wrapping_libraries_are_added_once_each_and_without_what_they_leave_out() {
        let own = env!("CARGO_PKG_VERSION");
        let library = info("library", "1.2", "Library Platform");
        for (next, expected) in [
            (
                info("framework", "2.0", "Framework"),
                ["|framework", "|2.0", "|Framework"],
            ),
            (info("framework", "2.0", ""), ["|framework", "|2.0", ""]),
            (
                info("framework", "", "Framework"),
                ["|framework", "", "|Framework"],
            ),
            (
                DriverInfo {
                    name: "framework".to_owned(),
                    ..DriverInfo::default()
                },
                ["|framework", "", ""],
            ),
            (library.clone(), ["", "", ""]),
            (
                info("library", "1.2", "Framework"),
                ["|library", "|1.2", "|Framework"],
            ),
            (
                info("library", "2.0", "Library Platform"),
                ["|library", "|2.0", "|Library Platform"],
            ),
        ] {
            let mut metadata = Metadata::new(None, &with(&[]));
            metadata.append(library.clone()).unwrap();
            metadata.append(next.clone()).unwrap();
            let [name, version, platform] = expected;
            let expected = [
                format!("mongo-client|library{name}"),
                format!("{own}|1.2{version}"),
                format!("Rust|Library Platform{platform}"),
            ];
            assert_eq!(shown(&metadata), expected, "{next:?}");
            // The same again, now behind others, changes nothing.
            metadata.append(library.clone()).unwrap();
            assert_eq!(shown(&metadata), expected, "{next:?}");
        }
    }

    #[test]
    fn empty_texts_and_none_are_the_same_library() {
        let mut metadata = Metadata::new(None, &with(&[]));
        metadata.append(info("library", "", "")).unwrap();
        let before = shown(&metadata);
        let same = DriverInfo {
            name: "library".to_owned(),
            ..DriverInfo::default()
        };
        metadata.append(same).unwrap();
        assert_eq!(shown(&metadata), before);
    }

    #[test]
    fn what_servers_would_misread_or_refuse_changes_nothing() {
        let mut metadata = Metadata::new(None, &with(&[]));
        let before = shown(&metadata);
        for refused in [
            info("a|b", "", ""),
            info("a", "1|2", ""),
            info("a", "", "p|q"),
            info(&"n".repeat(500), "", ""),
        ] {
            assert!(metadata.append(refused).is_err());
            assert_eq!(shown(&metadata), before);
        }
    }
}
