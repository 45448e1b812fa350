//! A subscriber that keeps every span of `tracing` that is opened in this process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{LazyLock, Once};

use testbed::journal::Journal;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::PATIENCE;

static SPANS: LazyLock<Journal<Vec<Kept>>> = LazyLock::new(Journal::default);

/// One span.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its place among all spans; earlier ones were opened before.
    pub number: usize,
    /// The span that it is in.
    pub parent: Option<usize>,
    /// What it is, without anything of its own.
    pub kind: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What it is about.
    pub target: &'static str,
    /// Its fields as text, those of them that were filled in.
    pub fields: BTreeMap<&'static str, String>,
    /// Those of them that came as numbers.
    pub numbers: BTreeMap<&'static str, i64>,
    /// It has ended.
    pub is_closed: bool,
}

impl Kept {
    /// Its name for OpenTelemetry.
    #[must_use]
    pub fn name(&self) -> &str {
        self.fields.get("otel.name").map_or(self.kind, |name| name)
    }

    /// The text of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

/// Begins to keep the spans of this process, from now on and for good.
///
/// # Panics
/// When another subscriber is there already.
pub fn open() {
    static OPENED: Once = Once::new();
    OPENED.call_once(|| tracing_subscriber::registry().with(Keeper).init());
}

/// The spans of one topology so far.
#[must_use]
pub fn of(topology: u64) -> Vec<Kept> {
    its(&SPANS.read(), topology)
}

/// What the span that another one is in is called; `None` if it is in none.
#[must_use]
pub fn parent_of(span: &Kept) -> Option<String> {
    let spans = SPANS.read();
    let parent = spans.get(span.parent?)?;
    Some(parent.name().to_owned())
}

/// The spans of one topology once they are as they should be.
///
/// # Panics
/// When they are not so in time.
pub async fn until(topology: u64, are_right: impl Fn(&[Kept]) -> bool) -> Vec<Kept> {
    let suffices = |spans: &Vec<Kept>| are_right(&its(spans, topology));
    let is_right = SPANS.wait(PATIENCE, suffices).await;
    let found = of(topology);
    assert!(is_right, "only these: {found:#?}");
    found
}

fn its(spans: &[Kept], topology: u64) -> Vec<Kept> {
    let topology = i64::try_from(topology).ok();
    let is_its = |span: &&Kept| span.numbers.get("topologyId").copied() == topology;
    spans.iter().filter(is_its).cloned().collect()
}

struct Keeper;

/// The place of a span, for the registry uses the ids of closed ones again.
struct Number(usize);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keeper {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        let span = context.span(id).expect("it is being opened");
        let parent = span.parent().and_then(|parent| number(&parent));
        SPANS.write(|spans| {
            let mut kept = Kept {
                number: spans.len(),
                parent,
                kind: metadata.name(),
                level: *metadata.level(),
                target: metadata.target(),
                fields: BTreeMap::new(),
                numbers: BTreeMap::new(),
                is_closed: false,
            };
            attributes.record(&mut kept);
            span.extensions_mut().insert(Number(kept.number));
            spans.push(kept);
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        change(id, &context, |kept| values.record(kept));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        change(&id, &context, |kept| kept.is_closed = true);
    }
}

fn change<S: Subscriber + for<'a> LookupSpan<'a>>(
    id: &Id,
    context: &Context<'_, S>,
    how: impl FnOnce(&mut Kept),
) {
    let found = context.span(id).and_then(|span| number(&span));
    SPANS.write(|spans| {
        if let Some(kept) = found.and_then(|number| spans.get_mut(number)) {
            how(kept);
        }
    });
}

fn number<'a, R: LookupSpan<'a>>(
    span: &tracing_subscriber::registry::SpanRef<'a, R>,
) -> Option<usize> {
    span.extensions().get::<Number>().map(|number| number.0)
}

impl Visit for Kept {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.numbers.insert(field.name(), value);
        self.fields.insert(field.name(), value.to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}
