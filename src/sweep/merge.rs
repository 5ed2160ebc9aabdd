//! The reports of partitions into the report that one run would have written.

use super::journal::{Contents, difference, line};
use super::record::{Header, Partition, PlainRecord, Record, Summary, TensorRecord};
use super::summary::summarise;
use crate::error::{Error, Result};
use crate::report::Tool;
use std::collections::HashMap;
use std::path::PathBuf;

/// A merged report.
#[derive(Debug)]
pub struct Merged {
    /// Its header.
    pub header: Header,
    /// TQ4 tensors, by name.
    pub tensors: Vec<TensorRecord>,
    /// Other tensors, by name.
    pub plain: Vec<PlainRecord>,
    /// Its summary.
    pub summary: Summary,
    /// The whole file.
    pub text: String,
}

/// Merges reports of the same sweep, in any order.
///
/// # Errors
/// When a file cannot be read, is of another sweep than the first, or a tensor is in none of them or in
/// two.
pub fn merge(paths: &[PathBuf]) -> Result<Merged> {
    let mut parts: Vec<Contents> = Vec::new();
    for path in paths {
        let place = path.display().to_string();
        let contents = Contents::read(path)?.ok_or_else(|| {
            Error::input(
                "not even a header found",
                &place,
                "run this partition again with --resume",
            )
        })?;
        if let Some(first) = parts.first()
            && let Some(what) = difference(&contents.header, &first.header, false)
        {
            return Err(Error::input(
                format!("the reports are of different sweeps: {what}"),
                format!("{place}, against {}", paths[0].display()),
                "merge the partitions of one sweep: the same models, options and version of tq4",
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
    header.partition = Partition::WHOLE;
    header.tool = Tool::this();

    let tensors = collect(paths, &parts, |c| &c.tensors, &header.tensors)?;
    let plain = collect(paths, &parts, |c| &c.plain, &header.plain)?;
    let lines = tensors
        .iter()
        .map(|t| &*t.1)
        .chain(plain.iter().map(|p| &*p.1));
    let mut text = line(&Record::Header(Box::new(header.clone())));
    text.extend(lines);
    let tensors: Vec<TensorRecord> = tensors.into_iter().map(|t| t.0.clone()).collect();
    let plain: Vec<PlainRecord> = plain.into_iter().map(|p| p.0.clone()).collect();
    let summary = summarise(&header, &tensors, &plain);
    text += &line(&Record::Summary(Box::new(summary.clone())));
    Ok(Merged {
        header,
        tensors,
        plain,
        summary,
        text,
    })
}

/// A record of one tensor.
trait Named {
    fn name(&self) -> &str;
}

impl Named for TensorRecord {
    fn name(&self) -> &str {
        &self.tensor_base
    }
}

impl Named for PlainRecord {
    fn name(&self) -> &str {
        &self.name
    }
}

/// The records of all parts with their lines, in the order of `expected`: each name exactly once.
fn collect<'c, T: Named>(
    paths: &[PathBuf],
    parts: &'c [Contents],
    lines: impl Fn(&'c Contents) -> &'c [(T, String)],
    expected: &[String],
) -> Result<Vec<&'c (T, String)>> {
    let mut seen: HashMap<&str, (usize, &(T, String))> = HashMap::new();
    for (i, part) in parts.iter().enumerate() {
        for record in lines(part) {
            let name = record.0.name();
            if let Some((other, _)) = seen.insert(name, (i, record)) {
                return Err(Error::input(
                    format!("tensor {name} is in two reports"),
                    format!("{} and {}", paths[other].display(), paths[i].display()),
                    "merge each partition once",
                ));
            }
        }
    }
    let missing: Vec<&str> = expected
        .iter()
        .map(String::as_str)
        .filter(|n| !seen.contains_key(n))
        .collect();
    if let Some(first) = missing.first() {
        return Err(Error::input(
            format!(
                "{} tensors are in no report, the first is {first}",
                missing.len()
            ),
            format!("{} reports", paths.len()),
            unfinished(parts),
        ));
    }
    // A report holds no name but those of its header, which is the same in all.
    let in_order = expected.iter().filter_map(|n| seen.get(n.as_str()));
    Ok(in_order.map(|(_, record)| *record).collect())
}

/// Which partitions are to be run or finished.
fn unfinished(parts: &[Contents]) -> String {
    let count = parts[0].header.partition.count;
    let finished = |index| {
        let is = |c: &&Contents| c.header.partition == Partition { index, count };
        parts.iter().find(is).is_some_and(|c| c.summary.is_some())
    };
    let open: Vec<String> = (1..=count)
        .filter(|i| !finished(*i))
        .map(|index| Partition { index, count }.to_string())
        .collect();
    match open.as_slice() {
        [] => "merge the reports of all partitions".into(),
        open => format!(
            "run or finish (--resume) partition {}, and merge all",
            open.join(", ")
        ),
    }
}
