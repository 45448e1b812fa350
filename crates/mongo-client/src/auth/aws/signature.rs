//! AWS Signature Version 4 of the one request that MONGODB-AWS signs: `GetCallerIdentity`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::DateTime;
use zeroize::Zeroizing;

use super::AwsCredentials;
use crate::auth::scram::Hash;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "sts";
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// What differs from one signature to the next.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) host: &'a str,
    pub(super) region: &'a str,
    pub(super) nonce: &'a [u8],
    /// As [`date`] writes it.
    pub(super) date: &'a str,
}

/// The form of `X-Amz-Date`, such as `20191107T002607Z`.
pub(super) fn date(now: DateTime) -> String {
    // Only a time before the year 0 cannot be written, and AWS takes no request from then.
    let written = now.try_to_rfc3339_string().unwrap_or_default();
    // `2019-11-07T00:26:07`, with or without fractions and a zone, which is always UTC.
    let seconds = written.get(..19).unwrap_or_default();
    let mut date = seconds.replace(['-', ':'], "");
    date.push('Z');
    date
}

/// The header `Authorization`.
pub(super) fn authorization(request: &Request<'_>, credentials: &AwsCredentials) -> String {
    let day = request.date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{SERVICE}/aws4_request", request.region);
    let (headers, signed) = headers(request, credentials);
    let canonical = Zeroizing::new(format!(
        "POST\n/\n\n{}\n{signed}\n{}",
        *headers,
        hex(&Hash::Sha256.digest(BODY.as_bytes()))
    ));
    let to_sign = format!(
        "{ALGORITHM}\n{}\n{scope}\n{}",
        request.date,
        hex(&Hash::Sha256.digest(canonical.as_bytes()))
    );
    let secret = credentials.secret_access_key.expose();
    let key = signing_key(secret, &[day, request.region, SERVICE]);
    let signature = hex(&Hash::Sha256.hmac(&key, to_sign.as_bytes()));
    let id = &credentials.access_key_id;
    format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}")
}

/// The canonical headers, a line each, and their names, both in the order of the names.
fn headers(request: &Request<'_>, credentials: &AwsCredentials) -> (Zeroizing<String>, String) {
    let (length, nonce) = (BODY.len().to_string(), BASE64.encode(request.nonce));
    let token = credentials.session_token.as_ref();
    let all = [
        ("content-length", Some(length.as_str())),
        ("content-type", Some("application/x-www-form-urlencoded")),
        ("host", Some(request.host)),
        ("x-amz-date", Some(request.date)),
        ("x-amz-security-token", token.map(|token| token.expose())),
        ("x-mongodb-gs2-cb-flag", Some("n")),
        ("x-mongodb-server-nonce", Some(nonce.as_str())),
    ];
    let mut lines = Zeroizing::new(String::new());
    let mut names = Vec::new();
    for (name, value) in all {
        if let Some(value) = value {
            for part in [name, ":", value, "\n"] {
                lines.push_str(part);
            }
            names.push(name);
        }
    }
    (lines, names.join(";"))
}

/// The key for a day, a region and a service.
fn signing_key(secret: &str, scope: &[&str]) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new([b"AWS4", secret.as_bytes()].concat());
    for part in scope.iter().chain(&["aws4_request"]) {
        key = Hash::Sha256.hmac(&key, part.as_bytes());
    }
    key
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the documentation of Signature Version 4, "Calculate the signature".
    #[test]
    fn the_key_and_the_signature_are_those_of_the_published_example() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let key = signing_key(secret, &["20150830", "us-east-1", "iam"]);
        assert_eq!(
            hex(&key),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
        let to_sign = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
                       f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
        assert_eq!(
            hex(&Hash::Sha256.hmac(&key, to_sign.as_bytes())),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn a_date_has_no_fractions_and_no_signs() {
        for (millis, expected) in [
            (0, "19700101T000000Z"),
            (1_573_086_367_000, "20191107T002607Z"),
            (1_573_086_367_999, "20191107T002607Z"),
            (i64::MAX, "99991231T235959Z"),
        ] {
            assert_eq!(date(DateTime::from_millis(millis)), expected);
        }
    }
}
