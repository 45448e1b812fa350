//! The providers of keys for client-side encryption; only their shape matters here.

use serde::Deserialize;
use serde_json::Value;

use super::value::AnyObject;

/// The fields that each kind of provider may have.
const FIELDS: &[(&str, &[&str])] = &[
    ("aws", &["accessKeyId", "secretAccessKey", "sessionToken"]),
    (
        "azure",
        &[
            "tenantId",
            "clientId",
            "clientSecret",
            "identityPlatformEndpoint",
        ],
    ),
    ("gcp", &["email", "privateKey", "endpoint"]),
    ("kmip", &["endpoint"]),
    ("local", &["key"]),
];

/// Providers by their kind, or by their kind, a colon and a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "AnyObject")]
pub(super) struct KmsProviders;

impl TryFrom<AnyObject> for KmsProviders {
    type Error = String;

    fn try_from(providers: AnyObject) -> Result<Self, String> {
        for (name, provider) in providers {
            let (kind, own_name) = name.split_once(':').unwrap_or((&name, "_"));
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let fields = FIELDS.iter().find(|(known, _)| *known == kind);
            let (Some((_, fields)), false, true) =
                (fields, own_name.is_empty(), own_name.chars().all(is_word))
            else {
                return Err(format!("unknown KMS provider {name:?}"));
            };
            let provider = provider.as_object().ok_or("a provider is an object")?;
            for (field, value) in provider {
                if !fields.contains(&field.as_str()) || !is_text(value) {
                    return Err(format!("{name}.{field} cannot be {value}"));
                }
            }
        }
        Ok(Self)
    }
}

/// A string, or what stands for one.
fn is_text(value: &Value) -> bool {
    let placeholder =
        |object: &AnyObject| object.len() == 1 && object.contains_key("$$placeholder");
    value.is_string() || value.as_object().is_some_and(placeholder)
}
