//! MONGODB-X509: the certificate that TLS has checked says who the client is.

use bson::{RawDocumentBuf, cstr, rawdoc};

/// The one command. The user is sent only if the application gave one; the server takes it from
/// the certificate otherwise.
pub(super) fn command(user: Option<&str>) -> RawDocumentBuf {
    let mut command = rawdoc! { "authenticate": 1, "mechanism": "MONGODB-X509" };
    if let Some(user) = user {
        command.append(cstr!("user"), user);
    }
    command
}
