//! The options of `mongodb+srv`.

use super::{Warnings, invalid, one};
use crate::error::OptionProblem;
use crate::options::UriOptions;
use crate::options::value::{self, Refusal};

/// Longest service name: a DNS label without the underscore before it.
const MAX_SERVICE_NAME: usize = 62;

/// Single labels that are no top-level domains, so that they may be allowed whole: RFC 6761, RFC
/// 6762, and names for private use.
const PRIVATE_LABELS: [&str; 9] = [
    "test",
    "localhost",
    "invalid",
    "example",
    "local",
    "internal",
    "corp",
    "home",
    "mail",
];

/// RFC 6335, section 5.1, but up to the length of a DNS label.
pub(in crate::options) fn read_service(
    o: &mut UriOptions,
    text: &str,
    _: &mut Warnings,
) -> Result<(), Refusal> {
    let name = value::present(text)?;
    let fits = name.len() <= MAX_SERVICE_NAME
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && name.bytes().any(|byte| byte.is_ascii_alphabetic())
        && name.split('-').all(|part| !part.is_empty());
    if !fits {
        return Err(invalid(
            "a service name of letters, digits and single hyphens, such as mongodb",
        ));
    }
    o.srv.service_name = Some(name.to_owned());
    Ok(())
}

pub(in crate::options) fn write_service(o: &UriOptions) -> Vec<String> {
    one(o.srv.service_name.as_deref())
}

/// An error rather than a warning, for the option guards against forged records.
pub(in crate::options) fn read_allowed_suffix(
    o: &mut UriOptions,
    text: &str,
    _: &mut Warnings,
) -> Result<(), Refusal> {
    let suffix = text.trim_matches('.').to_lowercase();
    let labels = suffix.split('.').count();
    let broken = suffix.split('.').any(str::is_empty) || suffix.contains(char::is_whitespace);
    let private = PRIVATE_LABELS.contains(&suffix.as_str());
    if broken || (labels < 2 && !private) || is_public_suffix(&suffix) && !private {
        let expected = "a domain of your own, such as .cluster.example.com";
        return Err(OptionProblem::Invalid { expected }.into());
    }
    o.srv.allowed_hosts_suffix = Some(suffix);
    Ok(())
}

pub(in crate::options) fn write_allowed_suffix(o: &UriOptions) -> Vec<String> {
    one(o.srv.allowed_hosts_suffix.as_deref())
}

/// Whether anybody may register names below `domain`, by the Public Suffix List.
#[cfg(feature = "public-suffix")]
fn is_public_suffix(domain: &str) -> bool {
    psl::suffix_str(domain) == Some(domain)
}

/// Without the list only single labels are known to be public, and those are refused anyway.
#[cfg(not(feature = "public-suffix"))]
fn is_public_suffix(_domain: &str) -> bool {
    false
}

#[cfg(all(test, feature = "public-suffix"))]
mod tests {
    use super::is_public_suffix;

    #[test]
    fn public_suffixes_are_told_by_the_list() {
        let table = [
            ("com.ac", true),
            ("foo.com.ac", false),
            ("b.ck", true),
            ("a.b.ck", false),
            ("abc.nom.br", true),
            ("x.abc.nom.br", false),
            ("ck", true),
            ("www.ck", false),
            ("nosuchtld", true),
            ("foo.nosuchtld", false),
            ("xn--p1ai", true),
            ("example.xn--p1ai", false),
            ("xn--55qx5d.cn", true),
            ("10gen.cc", false),
            ("cc", true),
        ];
        for (domain, expected) in table {
            assert_eq!(is_public_suffix(domain), expected, "{domain}");
        }
    }
}
