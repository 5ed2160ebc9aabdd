//! Gates: the rules that a lane must meet against the reference, and the decision they make.

use crate::counted::counted;
use crate::decimal::{fixed, shortest};
use crate::metrics::Metrics;
use crate::record::{
    Decision, Exactness, Gate, GateName, LaneKind, LaneName, OutputType, Relation, Tolerance,
    Verdict,
};

/// Largest `rmse / rhs_rms` of BF16 output: the published gate. It passes a kernel that truncates to BF16
/// (0.0033), which the allowed sets do not.
pub const MAX_RMSE_RATIO: f64 = 0.005;

fn at_most(name: GateName, value: f64, limit: f64) -> Gate {
    Gate::new(name, value, Relation::AtMost, limit)
}

/// The gates of a lane held to the reference.
fn gates(m: &Metrics, e: &Exactness) -> Vec<Gate> {
    let mut gates = vec![
        at_most(GateName::NoNan, e.not_finite as f64, 0.0),
        at_most(GateName::Allowed, e.outside as f64, 0.0),
    ];
    if e.output == OutputType::Bf16 {
        gates.push(at_most(
            GateName::RmseRatio,
            m.rmse_over_rhs_rms,
            MAX_RMSE_RATIO,
        ));
    }
    gates.push(at_most(GateName::NotAFault, e.ties_away as f64, 0.0));
    gates
}

/// The gates of a lane that is lossy by intent.
fn tolerance_gates(m: &Metrics, e: &Exactness, t: &Tolerance) -> Vec<Gate> {
    let mut gates = vec![at_most(GateName::NoNan, e.not_finite as f64, 0.0)];
    if let Some(limit) = t.rmse {
        gates.push(at_most(GateName::ToleranceRmse, m.rmse_over_rhs_rms, limit));
    }
    if t.by_element() {
        gates.push(at_most(
            GateName::ToleranceElements,
            e.beyond_tolerance as f64,
            0.0,
        ));
    }
    gates
}

fn met(gates: &[Gate]) -> bool {
    gates.iter().all(|g| g.passed)
}

/// Decides for a lane from its comparison with the reference. `launched` says that this program ran its own
/// kernel, whose arithmetic is known.
pub fn decide(
    lane: LaneName,
    m: &Metrics,
    e: Exactness,
    tolerance: Option<&Tolerance>,
    launched: bool,
) -> Decision {
    let strict = gates(m, &e);
    let (verdict, gates, reason) = if met(&strict) {
        let moved = if launched { moved(&lane, &e) } else { 0 };
        let verdict = if e.unequal == 0 {
            Verdict::Identical
        } else {
            Verdict::Allowed
        };
        (verdict, strict, correct(&e, moved))
    } else {
        let loose = tolerance.map(|t| (tolerance_gates(m, &e, t), t));
        match loose {
            Some((loose, t)) if met(&loose) => {
                let reason = format!("within the tolerance {t}: {}", failures(&strict, &e));
                (Verdict::WithinTolerance, loose, reason)
            }
            Some((loose, t)) => {
                let reason = format!("beyond the tolerance {t}: {}", failures(&loose, &e));
                (Verdict::Differs, loose, reason)
            }
            None => {
                let reason = failures(&strict, &e);
                (Verdict::Differs, strict, reason)
            }
        }
    };
    Decision {
        lane,
        rhs: LaneName::Reference,
        verdict,
        reason,
        gates,
        exactness: Some(e),
    }
}

/// Elements that the program of one of this project's own kernels does not give: the CUDA kernel's is the
/// reference's, and WGSL may only divide by multiplying.
fn moved(lane: &LaneName, e: &Exactness) -> u64 {
    match lane.kind() {
        Some(LaneKind::Cuda) => e.unequal,
        Some(LaneKind::Wgpu) => e.unlike_multiply,
        Some(LaneKind::Reference) | None => 0,
    }
}

/// The type of the output, for people.
fn type_name(of: OutputType) -> &'static str {
    match of {
        OutputType::F32 => "f32",
        OutputType::Bf16 => "BF16",
        OutputType::F16 => "F16",
    }
}

/// What the elements are held to.
fn reference(e: &Exactness) -> String {
    match e.output {
        OutputType::F32 => "the reference in f32".into(),
        rounded => format!("the reference rounded to {}", type_name(rounded)),
    }
}

/// Why a lane is right.
fn correct(e: &Exactness, moved: u64) -> String {
    let (n, reference) = (e.elements, reference(e));
    if e.unequal == 0 {
        return format!("all {n} elements equal {reference}");
    }
    let how = match e.arithmetic {
        Some(a) => format!("{}: {}", a.name(), a.sentence()),
        None => "no named arithmetic gives them all".into(),
    };
    let driver = if moved > 0 {
        format!(
            "; the driver changes the program's arithmetic: it moved {}",
            counted(moved, "element")
        )
    } else {
        String::new()
    };
    format!(
        "{} of {n} elements equal {reference}, the other {} allowed; {how}{driver}",
        n - e.unequal,
        match e.unequal {
            1 => "is".into(),
            others => format!("{others} are"),
        }
    )
}

/// The gates that are not met, in words.
fn failures(gates: &[Gate], e: &Exactness) -> String {
    let failed = gates.iter().filter(|g| !g.passed);
    let words: Vec<String> = failed.map(|g| failure(g, e)).collect();
    words.join("; ")
}

fn failure(g: &Gate, e: &Exactness) -> String {
    let (name, n) = (g.name.name(), e.elements);
    match g.name {
        GateName::NoNan => format!(
            "{name}: {} of {n} elements are NaN or infinite where the reference is not",
            e.not_finite
        ),
        GateName::Allowed => {
            let worst = e.worst.map_or_else(String::new, |w| {
                let [low, high] = w.allowed.map(|v| shortest(v as f32));
                let got = w
                    .got
                    .map_or("NaN or infinity".into(), |v| shortest(v as f32));
                let set = if low == high {
                    format!("only {low} is allowed")
                } else {
                    format!("{low} to {high} are allowed")
                };
                format!(
                    "; furthest outside its allowed values, row {}, column {}: {got}, where {set}",
                    w.row, w.col
                )
            });
            format!(
                "not {name}: {} of {n} elements are outside what f32 arithmetic can give as {}{worst}",
                e.outside,
                type_name(e.output)
            )
        }
        GateName::NotAFault => format!(
            "{name}: every element is what bf16_round_half_up gives, ties away from zero, which {} of {n} \
             elements show",
            e.ties_away
        ),
        GateName::ToleranceElements => {
            format!(
                "{name}: {} of {n} elements are further off",
                e.beyond_tolerance
            )
        }
        GateName::RmseRatio | GateName::ToleranceRmse | GateName::Equal => format!(
            "{name} is {}, must be {} {}",
            figure(g.value),
            g.must_be.words(),
            figure(g.limit)
        ),
    }
}

/// Decides for a recording that is held to another one, without the codes that both were made from.
pub fn decide_pair(lane: LaneName, m: &Metrics, tolerance: Option<&Tolerance>) -> Decision {
    let unequal = m.elements - m.bit_equal;
    // Values of f32 are counted as BF16; a difference shows all the same.
    let equal = unequal == 0 && m.nan == 0 && m.max_abs == 0.0;
    let strict = vec![
        at_most(GateName::NoNan, m.nan as f64, 0.0),
        at_most(
            GateName::Equal,
            if equal { 0.0 } else { unequal.max(1) as f64 },
            0.0,
        ),
    ];
    let loose = tolerance.and_then(|t| {
        let limit = t.rmse.filter(|_| !t.by_element())?;
        let gates = vec![
            at_most(GateName::NoNan, m.nan as f64, 0.0),
            at_most(GateName::ToleranceRmse, m.rmse_over_rhs_rms, limit),
        ];
        met(&gates).then_some(gates)
    });
    let said = format!(
        "{unequal} of {} elements differ, by up to {} BF16 steps",
        m.elements, m.max_ulp
    );
    let (verdict, gates, reason) = match loose {
        _ if equal => (
            Verdict::Identical,
            strict,
            format!("all {} elements are equal", m.elements),
        ),
        Some(loose) => (
            Verdict::WithinTolerance,
            loose,
            format!("within the tolerance: {said}"),
        ),
        None => {
            let help = "give --tq-model to hold both to what is allowed";
            (Verdict::Differs, strict, format!("{said}; {help}"))
        }
    };
    Decision {
        lane,
        rhs: m.rhs.clone(),
        verdict,
        reason,
        gates,
        exactness: None,
    }
}

fn figure(v: f64) -> String {
    if v == v.trunc() && v.abs() < 1e9 {
        format!("{v:.0}")
    } else {
        fixed(v, 6)
    }
}
