//! What a device makes of f32 arithmetic, in fields and in words.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a probe found when the device was opened. WGSL leaves it to a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceArithmetic {
    /// Whether `a*b + c` is fused: rounded once.
    pub contracts: bool,
    /// Whether `(a + b) - a` gives `b`, whatever the rounding of the sum.
    pub reassociates: bool,
    /// Whether `a*s + b*s` is computed as `(a + b)*s`.
    pub factors: bool,
    /// Sums `a*s + b*s`, of [`DeviceArithmetic::TRIED`], that are not those of f32 in this order.
    pub sums_off: u32,
    /// Whether such sums are right where each product is `fma(a, s, -0.0)`, the -0.0 from a uniform.
    #[serde(default)]
    pub guard_by_fma: bool,
    /// Whether they are where another invocation hands the products over through workgroup memory.
    pub guard_by_memory: bool,
    /// Whether a subnormal result is lost.
    pub flushes_results: bool,
    /// Whether a subnormal operand is taken for 0.
    pub flushes_operands: bool,
    /// Whether a subnormal that is stored and loaded, in workgroup memory and in a buffer, keeps its bits.
    pub moves_subnormals: bool,
    /// Whether `unpack2x16float` reads f16 subnormals.
    pub reads_f16_subnormals: bool,
    /// Quotients, of [`DeviceArithmetic::TRIED`], that are not rounded to nearest.
    pub division_off: u32,
}

impl DeviceArithmetic {
    /// Sums and quotients that are tried.
    pub const TRIED: u32 = 4096;

    /// Whether the products of this project's shader are safe from the driver in one of its two forms.
    pub fn guard_holds(&self) -> bool {
        self.guard_by_fma || self.guard_by_memory
    }

    /// What it does other than the program says, in words: `fuses a*b+c`, `reassociates sums`,
    /// `factors a*s + b*s`.
    pub fn changes(&self) -> Vec<&'static str> {
        let named = [
            (self.contracts, "fuses a*b+c"),
            (self.reassociates, "reassociates sums"),
            (self.factors, "factors a*s + b*s"),
        ];
        let found = named.into_iter().filter(|(does, _)| *does);
        let mut found: Vec<_> = found.map(|(_, words)| words).collect();
        if self.sums_off > 0 && !self.contracts && !self.factors {
            found.push("computes a*s + b*s in a way of its own");
        }
        found
    }

    /// [`DeviceArithmetic::changes`] as a sentence about the device; `None` where there are none.
    pub fn sentence(&self) -> Option<String> {
        let changes = self.changes();
        (!changes.is_empty()).then(|| format!("this device {}", listed(&changes)))
    }

    /// What to know before the results of this project's shader are used; `None` where its guard holds.
    pub fn warning(&self) -> Option<String> {
        let what = "the driver changes sums even where another invocation hands their products over: the \
                    results may not be those of the shader's program";
        (!self.guard_holds()).then(|| what.into())
    }
}

impl fmt::Display for DeviceArithmetic {
    /// In a line: `reassociates sums; keeps subnormals; divides exactly`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tried = Self::TRIED;
        let mut parts = match &self.changes()[..] {
            [] => vec!["as the program says".to_owned()],
            changes if self.sums_off > 0 => {
                let off = self.sums_off;
                vec![format!(
                    "{} ({off} of {tried} sums differ)",
                    listed(changes)
                )]
            }
            changes => vec![listed(changes)],
        };
        let flushed = [
            (self.flushes_results, "results"),
            (self.flushes_operands, "operands"),
            (!self.moves_subnormals, "numbers that are moved"),
            (!self.reads_f16_subnormals, "f16 numbers"),
        ];
        let flushed = flushed.into_iter().filter(|(does, _)| *does);
        let flushed: Vec<_> = flushed.map(|(_, what)| what).collect();
        parts.push(match &flushed[..] {
            [] => "keeps subnormals".into(),
            some => format!("flushes subnormal {}", listed(some)),
        });
        parts.push(match self.division_off {
            0 => "divides exactly".into(),
            off => format!("{off} of {tried} quotients are off"),
        });
        f.write_str(&parts.join("; "))
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).into(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
impl DeviceArithmetic {
    /// That of a device that does as it is told.
    pub(crate) const STRICT: Self = Self {
        contracts: false,
        reassociates: false,
        factors: false,
        sums_off: 0,
        guard_by_fma: true,
        guard_by_memory: true,
        flushes_results: false,
        flushes_operands: false,
        moves_subnormals: true,
        reads_f16_subnormals: true,
        division_off: 0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: DeviceArithmetic = DeviceArithmetic::STRICT;

    #[test]
    fn a_device_is_told_of_in_words() {
        assert_eq!(
            STRICT.to_string(),
            "as the program says; keeps subnormals; divides exactly"
        );
        assert_eq!(STRICT.sentence(), None);
        let all = DeviceArithmetic {
            contracts: true,
            reassociates: true,
            factors: true,
            sums_off: 9,
            flushes_results: true,
            flushes_operands: true,
            moves_subnormals: false,
            reads_f16_subnormals: false,
            division_off: 7,
            ..STRICT
        };
        assert_eq!(
            all.to_string(),
            "fuses a*b+c, reassociates sums and factors a*s + b*s (9 of 4096 sums differ); flushes subnormal \
             results, operands, numbers that are moved and f16 numbers; 7 of 4096 quotients are off"
        );
        let one = DeviceArithmetic {
            reassociates: true,
            ..STRICT
        };
        assert_eq!(one.sentence().unwrap(), "this device reassociates sums");
        let other = DeviceArithmetic {
            sums_off: 1,
            ..STRICT
        };
        let said = "this device computes a*s + b*s in a way of its own";
        assert_eq!(other.sentence().unwrap(), said);
    }

    #[test]
    fn one_guard_is_enough() {
        for (guard_by_fma, guard_by_memory) in [(true, true), (true, false), (false, true)] {
            let fine = DeviceArithmetic {
                guard_by_fma,
                guard_by_memory,
                ..STRICT
            };
            assert_eq!((fine.guard_holds(), fine.warning()), (true, None));
        }
        let bad = DeviceArithmetic {
            guard_by_fma: false,
            guard_by_memory: false,
            ..STRICT
        };
        assert!(!bad.guard_holds());
        let warning = bad.warning().unwrap();
        assert!(warning.contains("hands their products over"), "{warning}");
    }

    #[test]
    fn an_older_report_has_no_guard_by_fma() {
        let mut old = serde_json::to_value(STRICT).unwrap();
        let keys = old.as_object_mut().unwrap();
        keys.remove("guard_by_fma");
        keys.insert("guard_by_shuffle".into(), true.into());
        let read: DeviceArithmetic = serde_json::from_value(old).unwrap();
        assert!(!read.guard_by_fma && read.guard_holds());
    }
}
