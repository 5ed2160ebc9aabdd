//! A benchmark against an earlier one: what became slower and faster, in words.

use crate::error::printable;
use crate::record::bench::{BaselineDiff, Change, SpeedChange};
use crate::report::bench_words::{change, measure};
use crate::report::digits::{measured, percent};
use crate::report::view::{Figure, Look, name};

/// The run against an earlier one.
pub struct Baseline {
    /// The worst outcome of any speed.
    pub outcome: Look,
    /// How many speeds have which outcome.
    pub counts: String,
    /// What became of each speed; slower ones first.
    pub changes: Vec<ChangeView>,
    /// What could not be compared.
    pub left_out: Vec<String>,
}

/// One speed against an earlier one.
pub struct ChangeView {
    /// What was timed.
    pub name: String,
    /// The lane.
    pub lane: String,
    /// What was timed of it.
    pub measure: &'static str,
    /// The outcome.
    pub outcome: Look,
    /// The outcome with its factor.
    pub words: String,
    /// What else is not as it was.
    pub notes: String,
    /// Speed now over speed then, with its interval.
    pub figures: [Figure; 3],
}

impl Baseline {
    /// Of a comparison.
    pub fn new(c: &BaselineDiff) -> Self {
        let order = [
            Change::Slower,
            Change::NotDecidable,
            Change::Faster,
            Change::Same,
        ];
        let of = |outcome: Change| c.changes.iter().filter(move |c| c.outcome == outcome);
        let counts: Vec<String> = order
            .into_iter()
            .filter(|o| of(*o).count() > 0)
            .map(|o| match o {
                Change::Same => {
                    format!("{} the same within {}", of(o).count(), percent(c.tolerance))
                }
                o => format!("{} {}", of(o).count(), o.text()),
            })
            .collect();
        let worst = order.into_iter().find(|o| of(*o).count() > 0);
        Self {
            outcome: worst.map_or(Look::NONE, Look::of_change),
            counts: if counts.is_empty() {
                "nothing that both runs have timed".into()
            } else {
                format!("of {} speeds: {}", c.changes.len(), counts.join(", "))
            },
            changes: order
                .into_iter()
                .flat_map(of)
                .map(ChangeView::new)
                .collect(),
            left_out: c.left_out.iter().map(|l| printable(l)).collect(),
        }
    }
}

impl ChangeView {
    fn new(c: &SpeedChange) -> Self {
        Self {
            name: printable(&c.name),
            lane: name(&c.lane),
            measure: measure(c.measure),
            outcome: Look::of_change(c.outcome),
            words: change(c),
            notes: printable(&c.notes.join("; ")),
            figures: measured("speed_ratio", c.speed_ratio, c.interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::LaneName;
    use crate::record::bench::Measure;

    fn changed(ratio: f64, interval: Option<[f64; 2]>, outcome: Change) -> SpeedChange {
        SpeedChange {
            name: "64x1024".into(),
            lane: LaneName::Cuda,
            measure: Measure::KernelCold,
            speed_ratio: ratio,
            interval,
            outcome,
            reason: None,
            notes: Vec::new(),
        }
    }

    #[test]
    fn an_outcome_is_a_factor_in_words_and_the_slower_ones_come_first() {
        let diff = BaselineDiff {
            baseline: String::new(),
            tolerance: 0.05,
            changes: vec![
                changed(1.004, Some([0.99, 1.02]), Change::Same),
                changed(2.5, Some([2.4, 2.7]), Change::Faster),
                changed(0.8, Some([0.75, 0.86]), Change::Slower),
                changed(0.9, None, Change::NotDecidable),
            ],
            left_out: vec!["b is not in the baseline".into()],
        };
        let baseline = Baseline::new(&diff);
        assert_eq!(
            baseline.counts,
            "of 4 speeds: 1 slower, 1 not decidable, 1 faster, 1 the same within 5 %"
        );
        assert_eq!(baseline.outcome.word, "slower");
        let words: Vec<&str> = baseline.changes.iter().map(|c| &*c.words).collect();
        assert_eq!(
            words,
            [
                "1.3 times slower (1.2 to 1.3)",
                "0.900 times the speed",
                "2.5 times faster (2.4 to 2.7)",
                "1.00 times the speed (0.99 to 1.02)"
            ]
        );
        assert_eq!(baseline.left_out, diff.left_out);
    }
}
