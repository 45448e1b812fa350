use super::{AuthMechanism, CredentialError};
use crate::{ConnectionString, UriError, WarningKind};

#[test]
fn each_breach_has_its_error() {
    use AuthMechanism::*;
    use CredentialError::*;
    let property = |mechanism: &'static str, property| UnexpectedProperty {
        mechanism,
        property,
    };
    let missing = |property| MissingProperty {
        mechanism: MongoDbOidc,
        property,
    };
    let table = [
        ("u:p@a/?authMechanism=MONGODB-CR", RemovedMechanism),
        ("u:p@a/?authMechanism=scram-sha-1", UnknownMechanism),
        (
            "a/?authMechanism=SCRAM-SHA-256",
            MissingUsername(ScramSha256),
        ),
        ("u@a/?authMechanism=SCRAM-SHA-1", MissingPassword(ScramSha1)),
        ("u@a/?authMechanism=PLAIN", MissingPassword(Plain)),
        ("a/?authMechanism=GSSAPI", MissingUsername(Gssapi)),
        (
            "u@a/?authMechanism=GSSAPI&authSource=b",
            NotExternal(Gssapi),
        ),
        (
            "u:p@a/?authMechanism=MONGODB-X509",
            UnexpectedPassword(MongoDbX509),
        ),
        (
            "a/?authMechanism=MONGODB-X509&authSource=b",
            NotExternal(MongoDbX509),
        ),
        (
            "a/?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:t",
            AwsKeys,
        ),
        ("u@a/?authMechanism=MONGODB-AWS", AwsKeys),
        ("u:p@a/?authMechanism=MONGODB-AWS", AwsKeys),
        (
            "a/?authMechanism=MONGODB-OIDC&authMechanismProperties=TOKEN_RESOURCE:r",
            property("MONGODB-OIDC", "TOKEN_RESOURCE"),
        ),
        (
            "a/?authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:gcp",
            missing("TOKEN_RESOURCE"),
        ),
        (
            "a/?authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:k8s,TOKEN_RESOURCE:r",
            property("MONGODB-OIDC", "TOKEN_RESOURCE"),
        ),
        (
            "u@a/?authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:test",
            UnexpectedUsername(MongoDbOidc),
        ),
        (
            "a/?authMechanism=MONGODB-OIDC&authMechanismProperties=ALLOWED_HOSTS:x",
            AllowedHosts,
        ),
        (
            "a/?authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:vms",
            InvalidProperty {
                property: "ENVIRONMENT",
                expected: "test, azure, gcp or k8s",
            },
        ),
        (
            "u:p@a/?authMechanismProperties=SERVICE_NAME:x",
            property("SCRAM", "SERVICE_NAME"),
        ),
        (
            "u:p@a/?authMechanism=PLAIN&authMechanismProperties=ENVIRONMENT:test",
            property("PLAIN", "ENVIRONMENT"),
        ),
    ];
    for (text, expected) in table {
        let text = format!("mongodb://{text}");
        assert_eq!(
            ConnectionString::parse(&text),
            Err(UriError::Credential(expected)),
            "{text}"
        );
    }
}

#[test]
fn property_names_have_no_case_and_old_truth_values_a_meaning() {
    let text = "mongodb://u@a/?authMechanism=GSSAPI\
                &authMechanismProperties=service_realm:R,Canonicalize_Host_Name:true";
    let parsed = ConnectionString::parse(text).expect("a valid URI");
    let properties = parsed.credential.expect("a credential").properties;
    assert_eq!(properties.service_realm.as_deref(), Some("R"));
    assert_eq!(properties.service_name.as_deref(), Some("mongodb"));
    let mode = properties.canonicalize_host_name.expect("a mode");
    assert_eq!(mode.as_str(), "forwardAndReverse");
}

#[test]
fn the_old_service_name_is_taken_unless_the_new_one_is_given() {
    let old = "mongodb://u@a/?authMechanism=GSSAPI&gssapiServiceName=old";
    let new = "&authMechanismProperties=SERVICE_NAME:new";
    for (text, name) in [(old.to_owned(), "old"), (format!("{old}{new}"), "new")] {
        let parsed = ConnectionString::parse(&text).expect("a valid URI");
        let properties = parsed.credential.expect("a credential").properties;
        assert_eq!(properties.service_name.as_deref(), Some(name));
        assert_eq!(parsed.warnings.len(), 1);
    }
}

#[test]
fn what_is_odd_about_a_credential_is_told() {
    let table = [
        (
            "a/?authMechanismProperties=SERVICE_NAME:x",
            WarningKind::WithoutCredential,
        ),
        (
            "u@a/?authMechanism=GSSAPI&authMechanismProperties=COLOUR:red",
            WarningKind::InvalidProperty {
                name: "COLOUR".into(),
            },
        ),
    ];
    for (text, kind) in table {
        let parsed = ConnectionString::parse(&format!("mongodb://{text}")).expect(text);
        let kinds: Vec<_> = parsed
            .warnings
            .into_iter()
            .map(|warning| warning.kind)
            .collect();
        assert_eq!(kinds, [kind], "{text}");
    }
}

#[test]
fn a_credential_whose_callback_stands_in_code_is_not_complete() {
    for (text, expected) in [
        (
            "a/?authMechanism=MONGODB-OIDC",
            Err(CredentialError::NoTokens),
        ),
        (
            "a/?authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:k8s",
            Ok(()),
        ),
        ("u:p@a", Ok(())),
    ] {
        let parsed = ConnectionString::parse(&format!("mongodb://{text}")).expect(text);
        let credential = parsed.credential.expect("a credential");
        assert_eq!(credential.check_complete(), expected, "{text}");
    }
}
