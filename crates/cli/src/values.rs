//! Values of options: durations, times, statuses. The command line's parser parses them, so that a
//! mistake is a usage error with the option's name.

use std::time::Duration;

use abide::admin::system_now;
use abide::{BlockedOn, ExecutionSubStatus};
use abide_core::event::EventType;
use abide_core::ids::Timestamp;
use abide_core::status::{ExecutionStatus, SubStatus, TaskStatus};
use abide_core::{table, text};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo};

/// A duration such as `90s`, `1h30m`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if is_number(text) {
        return Err(format!("a unit is missing: did you mean `{text}s`?"));
    }
    let span: Span = text
        .parse()
        .map_err(|_| "say it like `90s`, `1h30m` or `7d`".to_owned())?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| "months and years have no fixed length: say days".to_owned())?;
    Duration::try_from(duration).map_err(|_| "it is negative".to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A time: a duration ago, a time with its zone, or a local date or time.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    match duration(text) {
        Ok(ago) => return Ok(system_now().plus_us(-us(ago))),
        Err(error) if is_number(text) => return Err(error),
        Err(_) => {}
    }
    let time = match text.parse::<jiff::Timestamp>() {
        Ok(time) => time,
        Err(_) => {
            let local: DateTime = text.parse().map_err(|_| {
                "say a duration ago such as `1h`, or a time such as `2026-05-01` or `2026-05-01T10:30:00Z`".to_owned()
            })?;
            let zoned = local.to_zoned(TimeZone::system());
            zoned.map_err(|error| error.to_string())?.timestamp()
        }
    };
    Ok(Timestamp(time.as_microsecond()))
}

/// Microseconds, saturating.
pub(crate) fn us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The actor, for history.
pub(crate) fn actor(text: &str) -> Result<String, String> {
    text::check_name("actor", text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// The reason of an action, for history.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        reason => Ok(reason.to_owned()),
    }
}

/// Options whose values are names. Help shows them, shells complete them, and case does not matter.
/// The first text is the name, the second is another accepted text.
fn named<T: Copy + Send + Sync + 'static>(
    values: Vec<(String, Option<String>, T)>,
) -> impl TypedValueParser<Value = T> {
    let possible = values.iter().map(|(name, alias, _)| {
        let value = PossibleValue::new(name);
        match alias {
            Some(alias) => value.alias(alias),
            None => value,
        }
    });
    PossibleValuesParser::new(possible.collect::<Vec<_>>()).map(move |text| {
        let is_it = |name: &str| name.eq_ignore_ascii_case(&text);
        let mut found = values
            .iter()
            .filter(|(name, alias, _)| is_it(name) || alias.as_deref().is_some_and(is_it));
        found.next().expect("one of the possible values").2
    })
}

/// The statuses that an execution can have.
fn statuses_in_use() -> impl Iterator<Item = ExecutionStatus> {
    let all = ExecutionStatus::ALL.iter().copied();
    all.filter(|status| table::is_status_in_use(*status))
}

/// The executions that a text names, for help texts.
pub(crate) const EXECUTION_HELP: &str =
    "The execution: its id, its instance (the latest generation), or INSTANCE/GENERATION";

/// A value of `list --status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExecutionState {
    Status(ExecutionStatus),
    SubStatus(ExecutionSubStatus),
}

impl ExecutionState {
    /// Statuses and sub-statuses.
    pub(crate) fn parser() -> impl TypedValueParser<Value = ExecutionState> {
        let statuses = statuses_in_use()
            .map(|status| (status.to_string(), None, ExecutionState::Status(status)));
        let sub_statuses = ExecutionSubStatus::ALL.iter().map(|&sub_status| {
            let alias = format!("{}::{sub_status}", sub_status.status());
            let state = ExecutionState::SubStatus(sub_status);
            (sub_status.to_string(), Some(alias), state)
        });
        named(statuses.chain(sub_statuses).collect())
    }
}

/// A value of `list --blocked-on`.
pub(crate) fn blocked_on() -> impl TypedValueParser<Value = BlockedOn> {
    let all = BlockedOn::ALL.iter();
    named(all.map(|&it| (it.to_string(), None, it)).collect())
}

/// A value of `tasks --status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskState {
    Status(TaskStatus),
    SubStatus(SubStatus),
}

impl TaskState {
    /// Statuses and sub-statuses.
    pub(crate) fn parser() -> impl TypedValueParser<Value = TaskState> {
        let statuses = TaskStatus::ALL
            .iter()
            .map(|&status| (status.to_string(), None, TaskState::Status(status)));
        let sub_statuses = SubStatus::ALL.iter().map(|&sub_status| {
            let alias = format!("{}::{sub_status}", TaskStatus::Running);
            let state = TaskState::SubStatus(sub_status);
            (sub_status.to_string(), Some(alias), state)
        });
        named(statuses.chain(sub_statuses).collect())
    }
}

/// A value of `wait --for`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Any end.
    Ended,
    /// This status. Running also matches an execution that has been Running.
    Status(ExecutionStatus),
}

impl Goal {
    /// `ended`, and the statuses.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Goal> {
        let statuses = statuses_in_use()
            .map(|status| (status.as_str().to_lowercase(), None, Goal::Status(status)));
        let ended = ("ended".to_owned(), None, Goal::Ended);
        named(std::iter::once(ended).chain(statuses).collect())
    }
}

/// A value of `events --type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// Every type with this prefix before the dot.
    Family(&'static str),
    /// One type.
    Type(EventType),
}

impl EventKind {
    /// Families of types, and types.
    pub(crate) fn parser() -> impl TypedValueParser<Value = EventKind> {
        let mut families: Vec<&str> = EventType::ALL
            .iter()
            .map(|kind| family(kind.as_str()))
            .collect();
        families.dedup();
        let families = families
            .into_iter()
            .map(|family| (family.to_owned(), None, EventKind::Family(family)));
        let types = EventType::ALL
            .iter()
            .filter(|kind| table::is_event_in_use(**kind))
            .map(|&kind| (kind.to_string(), None, EventKind::Type(kind)));
        named(families.chain(types).collect())
    }

    /// Whether the value includes the event type of this name.
    pub(crate) fn covers(self, name: &str) -> bool {
        match self {
            EventKind::Family(first) => family(name) == first,
            EventKind::Type(kind) => kind.as_str() == name,
        }
    }
}

fn family(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_fixed_length() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        let check = |text, part: &str| {
            let error = duration(text).expect_err("not a duration");
            assert!(error.contains(part), "{error}");
        };
        check("30", "`30s`");
        check("1mo", "days");
        check("-5s", "negative");
        check("soon", "`90s`");
        check("", "`90s`");
    }

    #[test]
    fn moments_are_times_or_durations_ago() {
        let time = moment("2026-05-01T10:30:00+02:00").expect("a time");
        assert_eq!(time, Timestamp(1_777_624_200_000_000));
        let ago = moment("1h").expect("a duration ago");
        let off_by = system_now().plus_us(-3_600_000_000).since_us(ago);
        assert!(off_by < 60_000_000, "{off_by}");
        moment("2026-05-01").expect("a local date");
        moment("yesterday").expect_err("no time");
        assert!(moment("30").is_err_and(|error| error.contains("`30s`")));
    }

    #[test]
    fn a_reason_is_any_text_that_says_something() {
        reason(" ").expect_err("it is empty");
        assert_eq!(reason(" deadline ").as_deref(), Ok("deadline"));
    }
}
