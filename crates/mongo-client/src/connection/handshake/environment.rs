//! Looks at where the process runs.

use std::path::Path;

use super::metadata::{Environment, VARIABLES};

impl Environment {
    /// Reads environment variables and a few small files.
    pub(crate) fn of_this_process() -> Self {
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self {
            os_type: os_type(std::env::consts::OS).to_owned(),
            os_name: release_value(&release, "PRETTY_NAME"),
            os_version: release_value(&release, "VERSION_ID"),
            architecture: std::env::consts::ARCH.to_owned(),
            variables: VARIABLES
                .into_iter()
                .filter_map(|name| Some((name, std::env::var(name).ok()?)))
                .collect(),
            has_dockerenv: Path::new("/.dockerenv").exists(),
        }
    }
}

/// The name that `uname -s` gives.
fn os_type(name: &str) -> &str {
    match name {
        "linux" | "android" => "Linux",
        "macos" | "ios" => "Darwin",
        "windows" => "Windows",
        "freebsd" => "FreeBSD",
        "netbsd" => "NetBSD",
        "openbsd" => "OpenBSD",
        other => other,
    }
}

/// A value of os-release(5), without its quotes.
fn release_value(release: &str, key: &str) -> Option<String> {
    let value = release
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_with_and_without_quotes() {
        let release = "NAME=\"X\"\nPRETTY_NAME=\"Some Linux 12 (name)\"\nVERSION_ID=12\nID=\n";
        for (key, expected) in [
            ("PRETTY_NAME", Some("Some Linux 12 (name)")),
            ("VERSION_ID", Some("12")),
            ("ID", None),
            ("MISSING", None),
        ] {
            assert_eq!(release_value(release, key).as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn this_process_runs_somewhere() {
        let environment = Environment::of_this_process();
        assert!(!environment.os_type.is_empty() && !environment.architecture.is_empty());
    }
}
