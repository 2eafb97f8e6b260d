//! What a benchmark says: a figure, its floor, and how they compare.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Its name, which ends with its unit's kind (`_per_s`, `_ms`, `_s`, `_mb`, `_pct`).
    pub(crate) name: String,
    /// The store it was measured on.
    #[serde(default)]
    pub(crate) backend: String,
    /// What was measured.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: String,
    /// The same rows by plain statements, if there is such a thing.
    pub(crate) floor: Option<f64>,
    /// How the value compares: the share of the floor that is reached for rates, the multiple of
    /// the floor that is needed for times.
    pub(crate) ratio: Option<f64>,
}

impl Measured {
    /// A figure without a floor.
    pub(crate) fn plain(name: &str, value: f64, unit: &str) -> Measured {
        let (name, unit) = (name.to_owned(), unit.to_owned());
        Measured {
            name,
            backend: String::new(),
            value,
            unit,
            floor: None,
            ratio: None,
        }
    }

    /// A figure beside its floor.
    pub(crate) fn beside(name: &str, value: f64, unit: &str, floor: f64) -> Measured {
        Measured {
            floor: Some(floor),
            ratio: Some(value / floor),
            ..Measured::plain(name, value, unit)
        }
    }
}

/// The table's head.
pub(crate) fn header() -> String {
    format!(
        "{:<44} {:>12} {:<6} {:>12} {:>7}",
        "", "value", "unit", "floor", "ratio"
    )
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<44} {:>12} {:<6}",
            self.name,
            number(self.value),
            self.unit
        )?;
        if let (Some(floor), Some(ratio)) = (self.floor, self.ratio) {
            write!(f, " {:>12} {ratio:>7.2}", number(floor))?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
