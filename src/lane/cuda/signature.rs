//! The parameters of an entry point, as its PTX declares them.

use crate::lane::kernel::Argument;

/// Bytes of each parameter of an entry point; `None` where the text has none of that name.
fn parameters(ptx: &str, entry: &str) -> Option<Vec<usize>> {
    let list = ptx.split(".entry").skip(1).find_map(|rest| {
        let rest = rest.trim_start().strip_prefix(entry)?;
        let rest = rest.trim_start();
        // An entry without parameters has no list, or an empty one.
        match rest.strip_prefix('(') {
            Some(rest) => rest.split_once(')').map(|(list, _)| list),
            None => rest.starts_with(['{', '.']).then_some(""),
        }
    })?;
    let all = list.split(',').filter(|p| !p.trim().is_empty());
    all.map(size).collect()
}

/// Bytes of `.param .u64 name` or `.param .align 8 .b8 name[16]`.
fn size(parameter: &str) -> Option<usize> {
    let one = parameter.split_whitespace().find_map(|word| {
        let bits = word
            .strip_prefix(['.'])?
            .strip_prefix(['u', 's', 'b', 'f'])?;
        bits.parse::<usize>().ok().map(|bits| bits / 8)
    })?;
    match parameter.split_once('[') {
        None => Some(one),
        Some((_, rest)) => Some(one * rest.split(']').next()?.trim().parse::<usize>().ok()?),
    }
}

/// How the arguments of a launch differ from what the entry point takes; `None` where they do not, or where
/// the text does not tell.
pub(super) fn mismatch(ptx: &str, entry: &str, arguments: &[Argument]) -> Option<String> {
    let takes = parameters(ptx, entry)?;
    let given = arguments.iter().map(|a| match a {
        Argument::Value(value) => value.size,
        Argument::Part(_) | Argument::Uniform(_) => size_of::<u64>(),
    });
    let given: Vec<usize> = given.collect();
    if takes.len() != given.len() {
        let (takes, given) = (takes.len(), given.len());
        return Some(format!(
            "{entry} has {takes} parameters, the manifest has {given} arguments"
        ));
    }
    let differ = |(takes, given): (&usize, &usize)| takes != given;
    let at = takes.iter().zip(&given).position(differ)?;
    let (takes, given) = (takes[at], given[at]);
    let number = at + 1;
    Some(format!(
        "parameter {number} of {entry} has {takes} bytes, the manifest's argument {given}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::cuda::own::OwnKernel;
    use crate::lane::kernel::{Part, ScalarValue};

    const PTX: &str = ".version 8.0
.visible .entry other(
	.param .u32 other_param_0
)
{ ret; }
.visible .entry k (
	.param .u64 k_param_0,
	.param .u32 k_param_1,
	.param .align 8 .b8 k_param_2[16]
)
.maxntid 256, 1, 1
{ ret; }
.entry none { ret; }
";

    #[test]
    fn parameters_are_read_from_the_text() {
        assert_eq!(parameters(PTX, "k"), Some(vec![8, 4, 16]));
        assert_eq!(parameters(PTX, "other"), Some(vec![4]));
        assert_eq!(parameters(PTX, "none"), Some(vec![]));
        assert_eq!(parameters(PTX, "missing"), None);
        let own = parameters(OwnKernel::Sm80.ptx(), "tq4_dequant_sm80_b4_g128_bf16");
        assert_eq!(own, Some(vec![8, 8, 8, 8, 8, 4, 4, 4]));
    }

    #[test]
    fn what_differs_is_said() {
        let [part, word] = [
            Argument::Part(Part::Out),
            Argument::Value(ScalarValue::from(1u32)),
        ];
        let of = |arguments: &[&Argument]| {
            let arguments: Vec<Argument> = arguments.iter().map(|a| (*a).clone()).collect();
            mismatch(PTX, "k", &arguments)
        };
        let said = of(&[&part, &word]).unwrap();
        assert_eq!(said, "k has 3 parameters, the manifest has 2 arguments");
        let said = of(&[&part, &part, &part]).unwrap();
        assert_eq!(
            said,
            "parameter 2 of k has 4 bytes, the manifest's argument 8"
        );
        assert_eq!(mismatch(PTX, "other", &[word]), None);
        assert_eq!(mismatch(PTX, "missing", &[part]), None);
    }
}
