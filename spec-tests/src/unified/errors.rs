//! How operations fail, and whether that is what was expected.

use bson::{Bson, Document};
use mongo_client::Error;
use mongo_client::change_stream::StreamError;
use mongo_client::wire::ServerError;

use super::Wrapper;
use super::events::document;
use super::matching::Matcher;
use super::schema::ExpectedError;
use super::stop::{Run, Stop};

/// Why an operation has no result.
#[derive(Debug)]
pub(super) enum OpError {
    /// The client says so; beside it, what was done all the same.
    Client(Box<Error>, Option<Bson>),
    /// The server took the command, and could not do all of it.
    Write(Box<WriteError>),
    /// A helper of this runner refuses to send it.
    Invalid(String),
    /// The case cannot go on.
    Stop(Stop),
}

/// What a reply with `ok: 1` says of a write that failed.
#[derive(Clone, Debug)]
pub(super) struct WriteError {
    /// `code`, `codeName` and `errmsg` of all write errors and of the write concern error.
    errors: Vec<Document>,
    labels: Vec<String>,
    reply: Document,
    /// What was done all the same.
    pub(super) result: Option<Bson>,
}

/// The result of an operation.
pub(super) type Op<T> = Result<T, OpError>;

impl From<Error> for OpError {
    fn from(error: Error) -> Self {
        Self::Client(Box::new(error), None)
    }
}

impl From<Stop> for OpError {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl WriteError {
    /// Finds the errors in a reply that says `ok: 1`.
    pub(super) fn of(reply: &Document) -> Option<Self> {
        let list = reply
            .get_array("writeErrors")
            .map_or(&[][..], Vec::as_slice);
        let concern = reply.get("writeConcernError").into_iter();
        let errors: Vec<_> = list.iter().chain(concern).collect();
        let errors: Vec<_> = errors
            .into_iter()
            .filter_map(Bson::as_document)
            .cloned()
            .collect();
        let labels = reply
            .get_array("errorLabels")
            .map_or(&[][..], Vec::as_slice);
        let labels = labels.iter().filter_map(Bson::as_str);
        (!errors.is_empty()).then(|| Self {
            errors,
            labels: labels.map(str::to_owned).collect(),
            reply: reply.clone(),
            result: None,
        })
    }
}

impl OpError {
    /// For an operation of which no error is expected.
    pub(super) fn unexpected(self) -> Stop {
        match self {
            Self::Stop(stop) => stop,
            other => Stop::fail(format!("no error was expected: {}", other.message())),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Client(error, _) => {
                let mut text = error.to_string();
                let mut source = std::error::Error::source(&**error);
                while let Some(error) = source {
                    text.push_str(": ");
                    text.push_str(&error.to_string());
                    source = error.source();
                }
                text
            }
            Self::Write(error) => {
                let messages = error.errors.iter();
                let messages = messages.map(|e| e.get_str("errmsg").unwrap_or_default());
                messages.collect::<Vec<_>>().join("; ")
            }
            Self::Invalid(message) => message.clone(),
            Self::Stop(stop) => format!("{stop:?}"),
        }
    }

    /// The reply of the server that says what went wrong.
    fn reply(&self) -> Option<Document> {
        match self {
            Self::Client(error, _) => {
                let error = server_error(error)?;
                Some(document(error.reply.as_raw()))
            }
            Self::Write(error) => Some(error.reply.clone()),
            _ => None,
        }
    }

    fn is_of_server(&self) -> bool {
        match self {
            Self::Client(error, _) => {
                server_error(error).is_some() && !error.is_operation_timeout()
            }
            Self::Write(_) => true,
            _ => false,
        }
    }

    fn has_label(&self, label: &str, wrapper: Option<&dyn Wrapper>) -> bool {
        let has = match self {
            Self::Client(error, _) => {
                let of_server = server_error(error);
                of_server.map_or_else(|| error.has_label(label), |error| error.has_label(label))
            }
            Self::Write(error) => error.labels.iter().any(|own| own == label),
            _ => false,
        };
        wrapper.map_or(has, |wrapper| wrapper.has_label(label, has))
    }

    /// All values of a field of the server's errors.
    fn values(&self, key: &str) -> Vec<Bson> {
        let documents = match self {
            Self::Write(error) => error.errors.clone(),
            other => other.reply().into_iter().collect(),
        };
        let values = documents.iter().filter_map(|error| error.get(key));
        values.cloned().collect()
    }

    /// Compares an error with what is expected of it.
    pub(super) fn check(
        self,
        expected: &ExpectedError,
        (matcher, wrapper): (Matcher<'_>, Option<&dyn Wrapper>),
    ) -> Run {
        if let Self::Stop(stop) = self {
            return Err(stop);
        }
        if expected.is_of_client_bulk_write {
            return Err(Stop::skip("bulk writes of a client"));
        }
        let wrong = |what: String| Stop::fail(format!("{what}: {}", self.message()));
        let flags = [
            (
                expected.is_client_error,
                !self.is_of_server(),
                "an error of the client",
            ),
            (expected.is_timeout_error, self.is_timeout(), "a timeout"),
        ];
        for (wanted, is, what) in flags {
            if wanted.is_some_and(|wanted| wanted != is) {
                let what = format!("{what}: expected {}, got {is}", !is);
                return Err(wrong(what));
            }
        }
        self.check_texts(expected).map_err(wrong)?;
        for label in &expected.labels {
            if !self.has_label(label, wrapper) {
                return Err(wrong(format!("the label {label} is missing")));
            }
        }
        if let Some(label) = expected
            .labels_omitted
            .iter()
            .find(|label| self.has_label(label, wrapper))
        {
            return Err(wrong(format!("the label {label} is not expected")));
        }
        if let Some(response) = &expected.response {
            let reply = self.reply().map(Bson::from);
            let wanted = response.clone().into();
            matcher.root(&wanted, reply.as_ref()).map_err(|mismatch| {
                Stop::differs("errorResponse", &mismatch, (&wanted, reply.as_ref()))
            })?;
        }
        let result = match &self {
            Self::Write(error) => error.result.as_ref(),
            Self::Client(_, result) => result.as_ref(),
            _ => None,
        };
        match &expected.result {
            Some(wanted) => matcher.root(wanted, result).map_err(|mismatch| {
                Stop::differs("the error's result", &mismatch, (wanted, result))
            }),
            None => Ok(()),
        }
    }

    /// Text, code and name of the code; an error with several of them has to have one that fits.
    fn check_texts(&self, expected: &ExpectedError) -> Result<(), String> {
        let lower = |text: &str| text.to_lowercase();
        if let Some(text) = &expected.contains
            && !lower(&self.message()).contains(&lower(text))
        {
            return Err(format!("{text:?} is not in the message"));
        }
        if let Some(code) = expected.code {
            let codes = self.values("code");
            let is_wanted = |actual: &Bson| match actual {
                Bson::Int32(actual) => i64::from(*actual) == code,
                Bson::Int64(actual) => *actual == code,
                _ => false,
            };
            if !codes.iter().any(is_wanted) {
                return Err(format!("expected the code {code}, got {codes:?}"));
            }
        }
        if let Some(name) = &expected.code_name {
            let names = self.values("codeName");
            let mut texts = names.iter().filter_map(Bson::as_str);
            if !texts.any(|actual| actual.eq_ignore_ascii_case(name)) {
                return Err(format!("expected the code name {name}, got {names:?}"));
            }
        }
        Ok(())
    }

    fn is_timeout(&self) -> bool {
        matches!(self, Self::Client(error, _) if error.is_operation_timeout())
    }
}

/// The answer `ok: 0`, to whatever it was.
fn server_error(error: &Error) -> Option<&ServerError> {
    match error {
        Error::ChangeStream {
            error: StreamError::Server { error, .. },
            ..
        } => Some(error),
        other => other.server_error(),
    }
}
