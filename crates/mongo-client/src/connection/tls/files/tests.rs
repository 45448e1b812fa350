use std::fs;

use tempfile::TempDir;

use super::*;

// One key, made for these tests by OpenSSL 3.0, in the clear and encrypted in its several ways.

const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBOjCB7aADAgECAhRmB1Xm0XGZZFedGNGd8t9OFSxSxTAFBgMrZXAwEjEQMA4G
A1UEAwwHZml4dHVyZTAgFw0yNjExMjIxNDM2NThaGA8yMTI2MTAyOTE0MzY1OFow
EjEQMA4GA1UEAwwHZml4dHVyZTAqMAUGAytlcAMhAPhWtwecGaq0qdbLZnXvPoil
bCNTrsnWBv2Tc1pLBXTgo1MwUTAdBgNVHQ4EFgQUP5kaO6Jw4uHA0U8POURlpYRl
6w0wHwYDVR0jBBgwFoAUP5kaO6Jw4uHA0U8POURlpYRl6w0wDwYDVR0TAQH/BAUw
AwEB/zAFBgMrZXADQQBUFkCG3qjhROuOTL6KeohpjbMSU818bbNB2HjQs/TPOhk+
j3190EJk05cyJgKkJjLsO0lOpsULUh0dILFeTZ0F
-----END CERTIFICATE-----
";
const CLEAR: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIGKIYDxv3TTBH01mOotao4TeAaOigu5aTewskYgpJL4C
-----END PRIVATE KEY-----
";
/// `openssl pkcs8 -topk8`
const AES: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAith6NfO9UoWQICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEFfxMjOIOfFLpO3FdKYUjWcEQKd9
ClmzmH4o1NqsIWesv/w2kUeN2OxGSM1zAFwsGQHLm0KAQiz3AlazxuqMUH4L8bLe
E+Q9PufvBdSLMlZfPVI=
-----END ENCRYPTED PRIVATE KEY-----
";
/// `openssl pkcs8 -topk8 -v2 des3 -v2prf hmacWithSHA1`
const DES3: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MHwwQAYJKoZIhvcNAQUNMDMwGwYJKoZIhvcNAQUMMA4ECEYH+9CTy15fAgIIADAU
BggqhkiG9w0DBwQIOIzzrSz3z7wEOF4vjWDVzJFo+IjhuLClQ81UwVEkb7wsM1wJ
BJZa+ZDgzOuoPeAKksRYltozKZZcV8McU1He4ITc
-----END ENCRYPTED PRIVATE KEY-----
";
/// `openssl pkcs8 -topk8 -scrypt`
const SCRYPT: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAg4cGTGZQi/vQICBAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBCyJM/T8sLToL5rSEB0w8H4BEB/FvsH7QegzABJ
xcp4jrqz7Ba51SIBbkYIjPq+fLhEBI1+U8oZ3T76m/PgU6qIlVViPGAnjhLcQpTW
2zW4nyKZ
-----END ENCRYPTED PRIVATE KEY-----
";
/// `openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES`
const PBES1: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MFgwHAYKKoZIhvcNAQwBAzAOBAhZ7KqZLbGhsAICCAAEOFejitMSc04r+5w83pmW
lWZ33uWzdP3O8CzN17pORcmhKGGw1c11+RQBfkDKVcUy3hni+QPObuGW
-----END ENCRYPTED PRIVATE KEY-----
";
/// `openssl ec -aes128`
const LEGACY: &str = "\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,2163E8EB178E2BB888643C6283507F30

4FHWC+xUUGqWHEg2mRy006qlcr6luBX6JAIA3UPwJGXtpwmyRFndcSLsvJWj9g7t
CIwt54aL8kOrF9IemPrViq26m/DKsBhFzVqCyCA3dH9vZ+R0qW1Rg4Gkd6sB/93g
AEfNKKjGe0uF0mvs47tNxQktZKNZNywzNJiCnTKm07E=
-----END EC PRIVATE KEY-----
";

const PASSWORD: &str = "secret";

fn in_file<T>(content: &str, read: impl FnOnce(&str) -> T) -> T {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file.pem");
    fs::write(&file, content).unwrap();
    read(file.to_str().unwrap())
}

fn identity_of(content: &str, password: Option<&str>) -> Found<Identity> {
    let password = password.map(Secret::new);
    match in_file(content, |file| identity(file, password.as_ref())) {
        Ok(identity) => Ok(identity),
        Err(Error::TlsFile { problem, .. }) => Err(problem),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_key_is_the_same_however_it_is_encrypted() {
    let clear = identity_of(&format!("{CERTIFICATE}{CLEAR}"), None).unwrap();
    for (encrypted, name) in [(AES, "aes"), (DES3, "des3"), (SCRYPT, "scrypt")] {
        // Whatever the order.
        for content in [
            format!("{CERTIFICATE}{encrypted}"),
            format!("a comment\n{encrypted}{CERTIFICATE}"),
        ] {
            let identity = identity_of(&content, Some(PASSWORD)).unwrap();
            assert_eq!(identity.key, clear.key, "{name}");
            assert_eq!(identity.chain, clear.chain, "{name}");
        }
    }
    // A password too many does no harm.
    let with_password = identity_of(&format!("{CERTIFICATE}{CLEAR}"), Some(PASSWORD)).unwrap();
    assert_eq!(with_password.key, clear.key);
}

#[test]
fn each_way_that_a_file_can_be_wrong_says_what_to_do() {
    let with = |key: &str| format!("{CERTIFICATE}{key}");
    for (content, password, expected) in [
        (with(AES), None, "give tlsCertificateKeyFilePassword"),
        (with(AES), Some("wrong"), "may be wrong"),
        (with(SCRYPT), Some(""), "may be wrong"),
        (with(PBES1), Some(PASSWORD), "openssl pkcs8 -topk8"),
        (with(LEGACY), Some(PASSWORD), "openssl pkcs8 -topk8"),
        (with(""), None, "no private key"),
        (CLEAR.to_owned(), None, "no usable certificate"),
        (String::new(), None, "no usable certificate"),
        (with(&AES[..100]), Some(PASSWORD), "a section has no end"),
        (with(&AES.replace("MIGb", "####")), Some(PASSWORD), "PEM"),
        (with(&CLEAR.replace("MC4C", "####")), None, "PEM"),
        (CERTIFICATE[..200].to_owned(), None, "PEM"),
    ] {
        let problem = identity_of(&content, password).unwrap_err().to_string();
        assert!(problem.contains(expected), "{problem}, not {expected}");
        assert!(!problem.contains(PASSWORD), "{problem}");
    }
}

#[test]
fn authorities_are_read_from_a_bundle_that_may_hold_one_in_need_of_repair() {
    let odd = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let read = |content: &str| in_file(content, authorities);
    assert_eq!(read(CERTIFICATE).unwrap().len(), 1);
    assert_eq!(read(&format!("{odd}{CERTIFICATE}")).unwrap().len(), 1);
    for content in [odd, CLEAR, "", "text"] {
        let error = read(content).unwrap_err().to_string();
        assert!(error.starts_with("tlsCAFile: /"), "{error}");
        assert!(error.ends_with("(BEGIN CERTIFICATE)"), "{error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named_with_its_option() {
    let error = identity("/nowhere/at-all.pem", None).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("tlsCertificateKeyFile: /nowhere/at-all.pem: it cannot be read"),
        "{message}"
    );
}
