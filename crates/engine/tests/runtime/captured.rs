//! A subscriber that keeps every line of the process with the fields of the spans it is in, for all
//! tests of the binary. Tests tell their lines apart by the instance.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

type Fields = BTreeMap<&'static str, String>;

/// A line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) level: Level,
    fields: Fields,
    /// The spans it is in, outermost first.
    pub(crate) spans: Vec<Fields>,
}

impl Line {
    pub(crate) fn message(&self) -> &str {
        self.field("message").unwrap_or_default()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Whether it says, in a span or a field, that it is about an instance.
    pub(crate) fn is_about(&self, instance: &str) -> bool {
        let names = |fields: &Fields| fields.get("instance").is_some_and(|of| of == instance);
        names(&self.fields) || self.spans.iter().any(names)
    }

    /// A field of the innermost span.
    pub(crate) fn span(&self, name: &str) -> Option<&str> {
        self.spans.last()?.get(name).map(String::as_str)
    }
}

/// What was captured, from the first call on.
pub(crate) fn captured() -> &'static Captured {
    static CAPTURED: OnceLock<Captured> = OnceLock::new();
    CAPTURED.get_or_init(|| {
        let captured = Captured::default();
        tracing::subscriber::set_global_default(Forward).expect("the only subscriber");
        captured
    })
}

#[derive(Default)]
pub(crate) struct Captured {
    last_id: AtomicU64,
    spans: Mutex<HashMap<u64, (Option<u64>, Fields)>>,
    lines: Mutex<Vec<Line>>,
}

impl Captured {
    /// The lines that are about an instance.
    pub(crate) fn of(&self, instance: &str) -> Vec<Line> {
        let lines = locked(&self.lines);
        let own = lines.iter().filter(|line| line.is_about(instance));
        own.cloned().collect()
    }

    /// The first line that is found, once it is there.
    pub(crate) async fn until(&self, mut found: impl FnMut(&Line) -> bool) -> Line {
        loop {
            let line = locked(&self.lines).iter().find(|line| found(line)).cloned();
            match line {
                Some(line) => return line,
                None => tokio::task::yield_now().await,
            }
        }
    }

    /// The fields of a span and of those that it is in, outermost first.
    fn path(&self, innermost: Option<u64>) -> Vec<Fields> {
        let spans = locked(&self.spans);
        let mut path = Vec::new();
        let mut next = innermost;
        while let Some((parent, fields)) = next.and_then(|id| spans.get(&id)) {
            path.push(fields.clone());
            next = *parent;
        }
        path.reverse();
        path
    }
}

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn current() -> Option<u64> {
    ENTERED.with_borrow(|entered| entered.last().copied())
}

/// The subscriber: all that it hears is in [`captured`].
struct Forward;

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let captured = captured();
        let id = 1 + captured.last_id.fetch_add(1, Ordering::Relaxed);
        let parent = match span.is_contextual() {
            true => current(),
            false => span.parent().map(Id::into_u64),
        };
        let mut fields = Read::default();
        span.record(&mut fields);
        locked(&captured.spans).insert(id, (parent, fields.0));
        Id::from_u64(id)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let innermost = match event.is_contextual() {
            true => current(),
            false => event.parent().map(Id::into_u64),
        };
        let mut fields = Read::default();
        event.record(&mut fields);
        let captured = captured();
        let line = Line {
            level: *event.metadata().level(),
            fields: fields.0,
            spans: captured.path(innermost),
        };
        locked(&captured.lines).push(line);
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| {
            let at = entered.iter().rposition(|id| *id == span.into_u64());
            entered.remove(at.expect("it was entered on this thread"));
        });
    }
}

#[derive(Default)]
struct Read(Fields);

impl Visit for Read {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
