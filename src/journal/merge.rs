//! The reports of partitions into the report that one run would have written.

use super::{Contents, difference};
use crate::counted::{are, counted};
use crate::error::{Error, Result};
use crate::record::{Partition, Run, Tool};
use std::collections::HashMap;
use std::path::PathBuf;

/// Merges JSONL reports of the same run, in any order.
///
/// # Errors
/// When a file cannot be read, is of another run than the first, or a tensor is in none of them or in two.
pub fn merge(paths: &[PathBuf]) -> Result<Run> {
    let mut parts: Vec<Contents> = Vec::new();
    for path in paths {
        let place = path.display().to_string();
        let contents = Contents::read(path)?.ok_or_else(|| {
            let help = "run this partition again, resuming it";
            Error::input("not even a header found", &place, help)
        })?;
        if let Some(first) = parts.first()
            && let Some(what) = difference(&contents.header, &first.header, false)
        {
            return Err(Error::input(
                format!("the reports are of different runs: {what}"),
                format!("{place}, against {}", paths[0].display()),
                "merge the partitions of one run: the same models, options and version of tq4",
            ));
        }
        parts.push(contents);
    }
    let Some(first) = parts.first() else {
        return Err(Error::input(
            "no report given",
            "tq4 merge",
            "name the reports",
        ));
    };
    let mut header = first.header.clone();
    header.model.partition = Partition::WHOLE;
    header.tool = Tool::this();
    let tensors = |c: &Contents| c.tensors.iter().map(|t| t.tensor_base.clone()).collect();
    each_once(paths, &parts, tensors, &header.model.tensors)?;
    let plain = |c: &Contents| c.plain.iter().map(|p| p.name.clone()).collect();
    each_once(paths, &parts, plain, &header.model.plain)?;
    let (mut tensors, mut plain) = (Vec::new(), Vec::new());
    for part in parts {
        tensors.extend(part.tensors);
        plain.extend(part.plain);
    }
    Ok(Run::new(header, tensors, plain))
}

/// Checks that each of the `expected` names is in one part.
fn each_once(
    paths: &[PathBuf],
    parts: &[Contents],
    names: impl Fn(&Contents) -> Vec<String>,
    expected: &[String],
) -> Result<()> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (i, part) in parts.iter().enumerate() {
        for name in names(part) {
            if let Some(other) = seen.insert(name.clone(), i) {
                return Err(Error::input(
                    format!("tensor {name} is in two reports"),
                    format!("{} and {}", paths[other].display(), paths[i].display()),
                    "merge each partition once",
                ));
            }
        }
    }
    let missing: Vec<&String> = expected.iter().filter(|n| !seen.contains_key(*n)).collect();
    let Some(first) = missing.first() else {
        return Ok(());
    };
    Err(Error::input(
        format!(
            "{} {} in no report, the first is {first}",
            counted(missing.len(), "tensor"),
            are(missing.len())
        ),
        counted(paths.len(), "report"),
        unfinished(parts),
    ))
}

/// Which partitions are to be run or finished.
fn unfinished(parts: &[Contents]) -> String {
    let count = parts[0].header.model.partition.count;
    let finished = |index| {
        let is = |c: &&Contents| c.header.model.partition == Partition { index, count };
        parts.iter().find(is).is_some_and(|c| c.summary.is_some())
    };
    let open: Vec<String> = (1..=count)
        .filter(|i| !finished(*i))
        .map(|index| Partition { index, count }.to_string())
        .collect();
    match open.as_slice() {
        [] => "merge the reports of all partitions".into(),
        open => format!("run or resume partition {}, and merge all", open.join(", ")),
    }
}
