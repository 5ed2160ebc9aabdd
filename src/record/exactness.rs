//! How a lane's values stand to what correct kernels may return.

use super::{Arithmetic, OutputType};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An element that no correct kernel returns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    /// Row within the compared rows.
    pub row: usize,
    /// Column.
    pub col: usize,
    /// What the lane returned; null when it is NaN or infinite.
    pub got: Option<f64>,
    /// Least and largest allowed value.
    pub allowed: [f64; 2],
    /// Distance from the reference over the error bound of f32 arithmetic; null when not finite.
    #[serde(deserialize_with = "null_is_infinite")]
    pub bounds_away: f64,
}

fn null_is_infinite<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
}

/// The elements of a lane, in the type that it returns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exactness {
    /// Type of the values.
    pub output: OutputType,
    /// Elements in all.
    pub elements: u64,
    /// Elements that are not the rounded reference; +0 equals -0.
    pub unequal: u64,
    /// Elements that are neither the reference's nor [`Arithmetic::Multiply`]'s.
    pub unlike_multiply: u64,
    /// Elements that are NaN or infinite where the rounded reference is not.
    pub not_finite: u64,
    /// Elements outside their allowed set, those among them.
    pub outside: u64,
    /// The one of these that is furthest off.
    pub worst: Option<Outside>,
    /// Elements beyond the tolerance; 0 without one.
    pub beyond_tolerance: u64,
    /// Ties that show it, where every element is a named arithmetic's with ties rounded away from zero, and no
    /// named arithmetic gives them with ties to even; 0 where that is not so or too few show it.
    pub ties_away: u64,
    /// The arithmetic that gives every element, bit for bit.
    pub arithmetic: Option<Arithmetic>,
}

/// How far a kernel that is lossy by intent may be off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Largest rmse over the rms of the reference.
    pub rmse: Option<f64>,
    /// With `rtol`: the largest difference of an element is `atol + rtol * |reference|`.
    pub atol: Option<f64>,
    /// See `atol`.
    pub rtol: Option<f64>,
}

impl Tolerance {
    /// Whether an element may be so far from this reference.
    pub fn holds(&self, distance: f64, reference: f64) -> bool {
        match (self.atol, self.rtol) {
            (None, None) => true,
            (a, r) => distance <= a.unwrap_or(0.0) + r.unwrap_or(0.0) * reference.abs(),
        }
    }

    /// Whether elements have a limit of their own.
    pub fn by_element(&self) -> bool {
        self.atol.is_some() || self.rtol.is_some()
    }
}

impl FromStr for Tolerance {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |what: String| {
            Err(Error::input(
                what,
                "",
                "write rmse=0.01, or atol=1e-3,rtol=1e-2, or all three",
            ))
        };
        let mut t = Self::default();
        for part in text.split(',') {
            let Some((key, value)) = part.split_once('=') else {
                return bad(format!("{part:?} found, expected a name, = and a number"));
            };
            let place = match key {
                "rmse" => &mut t.rmse,
                "atol" => &mut t.atol,
                "rtol" => &mut t.rtol,
                _ => return bad(format!("{key:?} found, expected rmse, atol or rtol")),
            };
            match value.parse::<f64>() {
                Ok(v) if v.is_finite() && v >= 0.0 && place.is_none() => *place = Some(v),
                Ok(_) if place.is_some() => return bad(format!("{key} is given twice")),
                _ => {
                    return bad(format!(
                        "{key}={value} found, expected a number that is not negative"
                    ));
                }
            }
        }
        Ok(t)
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = [
            ("rmse", self.rmse),
            ("atol", self.atol),
            ("rtol", self.rtol),
        ];
        let given: Vec<String> = given
            .iter()
            .filter_map(|(key, v)| Some(format!("{key}={}", (*v)?)))
            .collect();
        f.write_str(&given.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_is_what_is_written() {
        for text in ["rmse=0.01", "atol=0.001,rtol=0.01", "rmse=0,atol=1,rtol=2"] {
            assert_eq!(text.parse::<Tolerance>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "rmse",
            "rmse=",
            "rmse=-1",
            "rmse=nan",
            "rmse=1,rmse=2",
            "abs=1",
            "rmse=1,",
        ] {
            assert!(bad.parse::<Tolerance>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_nan_is_beyond_every_tolerance() {
        let t: Tolerance = "atol=1".parse().unwrap();
        assert!(t.holds(1.0, 0.0) && !t.holds(f64::NAN, 0.0) && !t.holds(1.1, 5.0));
    }
}
