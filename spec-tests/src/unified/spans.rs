//! The spans that clients have: how they are collected, and how they are compared.

use std::fmt::Write;

use bson::{Bson, Document};
use testbed::journal::Journal;
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::events::GRACE;
use super::logs::Fields;
use super::matching::Matcher;
use super::schema::{ExpectedSpan, ExpectedSpans};
use super::stop::{Problem, Run, Stop, diff};

/// The target of a client's spans.
const TARGET: &str = "mongo_client::spans";

/// The spans of all clients of one case, in the order in which they began.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans(Journal<Vec<Span>>);

#[derive(Clone, Debug)]
struct Span {
    /// The place of the span that it is in.
    parent: Option<usize>,
    attributes: Fields,
}

/// The place of a span, for the registry uses the ids of closed ones again.
struct Place(usize);

impl Span {
    fn name(&self) -> &str {
        self.attributes.0.get_str("otel.name").unwrap_or_default()
    }
}

impl Spans {
    /// Compares the spans of a client, which carry the number of its topology.
    pub(super) async fn check(
        &self,
        expected: &ExpectedSpans,
        topology: i64,
        matcher: Matcher<'_>,
    ) -> Run {
        let compare = |spans: &Vec<Span>| compare(spans, expected, (topology, matcher));
        // The comparison tells better what is missing.
        let _ = self.0.wait(GRACE, |spans| compare(spans).is_ok()).await;
        compare(&self.0.read())
    }

    /// One line a span.
    pub(super) fn lines(&self) -> Vec<String> {
        let spans = self.0.read();
        let line = |(place, span): (usize, &Span)| {
            let mut line = format!("{place} {:?} {}", span.name(), span.attributes.0);
            if let Some(parent) = span.parent {
                let _ = write!(line, " in {parent}");
            }
            line
        };
        spans.iter().enumerate().map(line).collect()
    }
}

fn compare(
    spans: &[Span],
    expected: &ExpectedSpans,
    (topology, matcher): (i64, Matcher<'_>),
) -> Run {
    let is_its = |span: &Span| span.attributes.0.get_i64("topologyId").ok() == Some(topology);
    let spans = spans
        .iter()
        .map(|span| Some(span).filter(|span| is_its(span)));
    let comparison = Comparison {
        spans: spans.collect(),
        ignore_extra: expected.ignore_extra,
        matcher,
    };
    comparison.children(&expected.spans, None)
}

/// A comparison of all spans of one client.
struct Comparison<'a> {
    /// By their places; `None` where another client's are.
    spans: Vec<Option<&'a Span>>,
    ignore_extra: bool,
    matcher: Matcher<'a>,
}

impl Comparison<'_> {
    /// Compares the spans in one, or those that are in none.
    fn children(&self, expected: &[ExpectedSpan], parent: Option<usize>) -> Run {
        let its = self.spans.iter().enumerate();
        let its = its.filter_map(|(place, span)| Some((place, (*span)?)));
        let mut actual = its.filter(|(_, span)| span.parent == parent);
        for (index, expected) in expected.iter().enumerate() {
            let mut problem = None;
            loop {
                let Some((place, span)) = actual.next() else {
                    let name = &expected.name;
                    let missing = || Stop::fail(format!("span {index}, {name:?}, is missing"));
                    return Err(problem.unwrap_or_else(missing));
                };
                match self.one(expected, span, place) {
                    Ok(()) => break,
                    Err(stop) if self.ignore_extra => {
                        // Of those that it could have been, the first says what is wrong.
                        if span.name() == expected.name {
                            problem = problem.or(Some(stop));
                        }
                    }
                    Err(stop) => return Err(stop),
                }
            }
        }
        match actual.next() {
            Some((_, extra)) if !self.ignore_extra => Err(Stop::fail(format!(
                "the span {:?} {} is not expected",
                extra.name(),
                extra.attributes.0
            ))),
            _ => Ok(()),
        }
    }

    fn one(&self, expected: &ExpectedSpan, actual: &Span, place: usize) -> Run {
        let name = &expected.name;
        if actual.name() != name {
            let actual = actual.name();
            return Err(Stop::fail(format!(
                "expected the span {name:?}, got {actual:?}"
            )));
        }
        let (wanted, attributes) = (&expected.attributes.0, &actual.attributes.0);
        self.matcher
            .root_document(wanted, attributes)
            .map_err(|mismatch| differs(mismatch.to_string(), wanted, attributes))
            .and_then(|()| self.children(expected.nested.as_deref().unwrap_or(&[]), Some(place)))
            .map_err(|stop| stop.at(format!("span {name:?}")))
    }
}

fn differs(message: String, wanted: &Document, actual: &Document) -> Stop {
    let (wanted, actual) = (Bson::from(wanted.clone()), Bson::from(actual.clone()));
    let diff = Some(diff(&wanted, Some(&actual)));
    Stop::Fail(Problem { message, diff })
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !metadata.is_span() || metadata.target() == TARGET
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let parent = span.parent().and_then(|parent| place(&parent));
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        self.0.write(|spans| {
            span.extensions_mut().insert(Place(spans.len()));
            spans.push(Span {
                parent,
                attributes: fields,
            });
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let place = context.span(id).and_then(|span| place(&span));
        self.0.write(|spans| {
            if let Some(span) = place.and_then(|place| spans.get_mut(place)) {
                values.record(&mut span.attributes);
            }
        });
    }
}

fn place<'a, R: LookupSpan<'a>>(span: &SpanRef<'a, R>) -> Option<usize> {
    span.extensions().get::<Place>().map(|place| place.0)
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use serde_json::{Value, json};

    use super::*;
    use crate::unified::matching::NoEntities;

    /// An operation of two tries, another client's, and one more operation.
    fn spans() -> Vec<Span> {
        let span = |name: &str, topology: i64, parent, more: Document| {
            let mut attributes = doc! { "otel.name": name, "topologyId": topology };
            attributes.extend(more);
            let attributes = Fields(attributes);
            Span { parent, attributes }
        };
        vec![
            span("find d.c", 1, None, doc! {}),
            span("find", 1, Some(0), doc! { "code": "89" }),
            span("ping", 2, None, doc! {}),
            span("find", 1, Some(0), doc! {}),
            span("drop d.c", 1, None, doc! {}),
        ]
    }

    fn check(ignore_extra: bool, expected: &Value) -> Run {
        let json = json!({ "client": "c", "ignoreExtraSpans": ignore_extra, "spans": expected });
        let expected: ExpectedSpans = serde_json::from_value(json).unwrap();
        compare(&spans(), &expected, (1, Matcher::new(&NoEntities)))
    }

    #[test]
    fn spans_are_as_expected_in_their_order_and_their_places() {
        let named = |name: &str| json!({ "name": name, "attributes": {} });
        let find =
            |nested: Value| json!({ "name": "find d.c", "attributes": {}, "nested": nested });
        let failed = json!({ "name": "find", "attributes": { "code": "89" } });
        let good = json!({ "name": "find", "attributes": { "code": { "$$exists": false } } });
        let both = || json!([failed, good]);
        let last = named("drop d.c");
        for (ignore_extra, expected, problem) in [
            (false, json!([find(both()), last]), None),
            (true, json!([find(both())]), None),
            (true, json!([find(json!([good])), last]), None),
            (true, json!([last]), None),
            (false, json!([find(both())]), Some("\"drop d.c\"")),
            (
                false,
                json!([named("find d.c"), last]),
                Some("is not expected"),
            ),
            (
                false,
                json!([find(json!([good, good])), last]),
                Some("code"),
            ),
            (false, json!([last]), Some("expected the span")),
            (
                true,
                json!([find(json!([good, failed])), last]),
                Some("is missing"),
            ),
            (true, json!([last, find(both())]), Some("is missing")),
            (true, json!([named("find")]), Some("is missing")),
            (true, json!([named("ping")]), Some("is missing")),
        ] {
            let found = check(ignore_extra, &expected);
            match (found, problem) {
                (Ok(()), None) => {}
                (Err(Stop::Fail(found)), Some(problem)) => {
                    assert!(
                        found.message.contains(problem),
                        "{expected}: {}",
                        found.message
                    );
                }
                (found, _) => panic!("{expected}: {found:?}"),
            }
        }
    }
}
