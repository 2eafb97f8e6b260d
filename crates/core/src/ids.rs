//! Identifiers and time. Ids have 64 bits, are ordered by time, are made without coordination, and
//! are shown as short strings. Nothing here reads a clock: callers pass the time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since the Unix epoch.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use abide_core::ids::Timestamp;
///
/// let later = SystemTime::UNIX_EPOCH + Duration::from_millis(2);
/// assert_eq!(Timestamp::from(later), Timestamp(2_000));
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time plus `us` microseconds. Saturates at the largest and smallest time.
    pub fn plus_us(self, us: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to this time, never negative.
    pub fn since_us(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0).max(0)
    }
}

/// Saturates at the ends of time; what is shorter than a microsecond is dropped.
#[expect(clippy::disallowed_types, reason = "callers bring the time")]
impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Timestamp {
        let us = |span: std::time::Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        match time.duration_since(std::time::SystemTime::UNIX_EPOCH) {
            Ok(since) => Timestamp(us(since)),
            Err(before) => Timestamp(-us(before.duration())),
        }
    }
}

/// Crockford's base 32 in lower case: no `i`, `l`, `o`, `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 13 digits of 5 bits hold 63 bits and keep the order of numbers as the order of strings.
const DIGITS: usize = 13;

fn encode(id: i64) -> String {
    let id = id.unsigned_abs();
    (0..DIGITS)
        .rev()
        .map(|digit| char::from(ALPHABET[(id >> (5 * digit) & 31) as usize]))
        .collect()
}

fn decode(text: &str) -> Option<i64> {
    if text.len() != DIGITS {
        return None;
    }
    let mut id: u64 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET
            .iter()
            .position(|&c| c == byte.to_ascii_lowercase())?;
        id = id.checked_mul(32)?.checked_add(digit as u64)?;
    }
    i64::try_from(id).ok()
}

/// A text that is not a valid id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: ids are 13 letters and digits such as `00f3k9m2t7x4a`")]
pub struct IdError(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                decode(text).map($name).ok_or_else(|| IdError(text.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// One run of a workflow for an instance. Shown as 13 letters and digits.
    ExecutionId
}
id! {
    /// One incarnation of a process that claims tasks. Never reused.
    WorkerId
}

/// A stored workflow version. It is also the queue of its tasks: a worker claims only from the
/// queues of the versions that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(pub i64);

/// A task of an execution. Numbers start at 1, in the order in which the graph declares its nodes.
/// Number 0 means the execution's own stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    /// The execution it belongs to.
    pub execution: ExecutionId,
    /// Its number in the graph, from 1.
    pub number: u32,
}

impl TaskKey {
    /// The key of task `number` of `execution`.
    pub fn new(execution: ExecutionId, number: u32) -> TaskKey {
        TaskKey { execution, number }
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.execution, self.number)
    }
}

/// Makes ids: 41 bits for the milliseconds since 2025, 10 bits that distinguish generators, 12 bits
/// that count. Strictly increasing within a generator. Two generators that drew the same tag may
/// make the same id; the store's primary key detects this, and the caller tries the next id.
#[derive(Debug)]
pub struct IdGenerator {
    tag: i64,
    last_ms: i64,
    count: i64,
}

/// The smallest id that a generator makes at this time: smaller ids are older. A time that ids
/// cannot express (before 2025, after 2094) gives the smallest or the largest.
pub fn first_id_at(now: Timestamp) -> i64 {
    (now.0 / 1000 - ID_EPOCH_MS)
        .clamp(0, (1 << 41) - 1)
        .saturating_mul(1 << (COUNT_BITS + TAG_BITS))
}

/// When an id was made, to the millisecond, by its generator's clock.
pub fn made_at(id: i64) -> Timestamp {
    Timestamp(((id >> (COUNT_BITS + TAG_BITS)) + ID_EPOCH_MS) * 1000)
}

const ID_EPOCH_MS: i64 = 1_735_689_600_000;
const COUNT_BITS: u32 = 12;
const TAG_BITS: u32 = 10;

impl IdGenerator {
    /// A generator whose ids contain ten bits of `tag` (pass a random number).
    pub fn new(tag: u64) -> IdGenerator {
        IdGenerator {
            tag: (tag & ((1 << TAG_BITS) - 1)) as i64,
            last_ms: 0,
            count: 0,
        }
    }

    /// The next id. If all ids of a millisecond are used, or the clock went back, the id runs ahead
    /// of the clock instead of repeating.
    pub fn next(&mut self, now: Timestamp) -> i64 {
        let now_ms = (now.0 / 1000 - ID_EPOCH_MS).clamp(1, (1 << 41) - 1);
        if now_ms > self.last_ms {
            self.last_ms = now_ms;
            self.count = 0;
        } else if self.count == (1 << COUNT_BITS) - 1 {
            self.last_ms += 1;
            self.count = 0;
        } else {
            self.count += 1;
        }
        self.last_ms << (COUNT_BITS + TAG_BITS) | self.tag << COUNT_BITS | self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_sort_as_they_were_made() {
        let mut generator = IdGenerator::new(77);
        let ids: Vec<ExecutionId> = (0..10_000)
            .map(|i| ExecutionId(generator.next(Timestamp(1_790_000_000_000_000 + i / 10))))
            .collect();
        for pair in ids.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].to_string() < pair[1].to_string());
        }
        for id in ids {
            assert_eq!(id.to_string().parse::<ExecutionId>(), Ok(id));
        }
    }

    #[test]
    fn an_id_survives_json_as_a_string() {
        let id = ExecutionId(i64::MAX);
        let json = serde_json::to_string(&id).expect("an id is a string");
        assert_eq!(json, "\"7zzzzzzzzzzzz\"");
        assert_eq!(
            serde_json::from_str::<ExecutionId>(&json).expect("reads back"),
            id
        );
    }

    #[test]
    fn other_texts_are_refused_by_name() {
        for text in ["", "order-42", "zzzzzzzzzzzzz", "0000000000000000"] {
            let error = text.parse::<ExecutionId>().expect_err("not an id");
            assert!(error.to_string().contains(text));
        }
    }

    #[test]
    fn ids_lie_between_the_first_ones_of_their_time_and_of_the_next() {
        for now in [1_735_689_600_001_000, 1_790_000_000_000_000] {
            let id = IdGenerator::new(1023).next(Timestamp(now));
            assert!(first_id_at(Timestamp(now)) <= id);
            assert!(id < first_id_at(Timestamp(now + 1000)));
            assert!(first_id_at(made_at(id)) <= id);
            assert_eq!(made_at(id).0 / 1000, now / 1000);
        }
        assert_eq!(first_id_at(Timestamp(0)), 0);
        assert!(first_id_at(Timestamp(i64::MAX)) > first_id_at(Timestamp(3_900_000_000_000_000)));
    }

    #[test]
    fn ids_never_repeat_when_the_clock_goes_back() {
        let mut generator = IdGenerator::new(1);
        let first = generator.next(Timestamp(1_790_000_000_000_000));
        let second = generator.next(Timestamp(1_780_000_000_000_000));
        assert!(second > first);
    }
}
