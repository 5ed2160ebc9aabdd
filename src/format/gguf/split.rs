//! A model in one file, or split over `NAME-00001-of-0000N.gguf` and so on.

use super::{GgufFile, GgufTensorInfo};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

/// Missing parts that an error names.
const NAMED: usize = 3;

/// All files of a model, open.
#[derive(Debug)]
pub(crate) struct GgufModel {
    parts: Vec<GgufFile>,
    tensors: BTreeMap<String, usize>,
}

impl GgufModel {
    /// Opens a model by its file, or by any of its parts.
    ///
    /// # Errors
    /// When a part is missing or damaged, or the parts are not of one model.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let named = PartName::of(path);
        let parts = match &named {
            Some(named) => named.open_all()?,
            None => vec![GgufFile::open(path)?],
        };
        for (i, part) in parts.iter().enumerate() {
            check_part(part, i, parts.len(), named.is_some())?;
        }
        let mut tensors = BTreeMap::new();
        for (i, part) in parts.iter().enumerate() {
            for name in part.names() {
                match tensors.entry(name.to_owned()) {
                    Entry::Vacant(place) => drop(place.insert(i)),
                    Entry::Occupied(there) => {
                        let other: &GgufFile = &parts[*there.get()];
                        return Err(mixed(
                            part,
                            format!("tensor {name:?} is in {} too", other.path().display()),
                        ));
                    }
                }
            }
        }
        let model = Self { parts, tensors };
        model.check_total()?;
        Ok(model)
    }

    /// Checks the number of tensors that parts say the model has.
    fn check_total(&self) -> Result<()> {
        let found = self.tensors.len() as u64;
        for part in &self.parts {
            if let Some(said) = number(part, "split.tensors.count")?
                && said != found
            {
                return Err(mixed(
                    part,
                    format!("the parts have {found} tensors, {said} expected"),
                ));
            }
        }
        Ok(())
    }

    /// The files, in order.
    pub(super) fn into_parts(self) -> Vec<GgufFile> {
        self.parts
    }

    /// Names of all tensors, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The file that holds a tensor, and what it says of it.
    ///
    /// # Errors
    /// When no file does.
    pub(crate) fn find(&self, name: &str) -> Result<(&GgufFile, &GgufTensorInfo)> {
        // Of a name that is nowhere, the first file says so.
        let part = &self.parts[self.tensors.get(name).copied().unwrap_or(0)];
        Ok((part, part.known(name)?))
    }

    /// Checks that no file was written to since it was opened.
    ///
    /// # Errors
    /// When one was.
    pub(crate) fn unchanged(&self) -> Result<()> {
        self.parts.iter().try_for_each(GgufFile::unchanged)
    }
}

/// A number in a part's metadata, where it has one.
fn number(part: &GgufFile, key: &str) -> Result<Option<u64>> {
    let Some(value) = part.value(key) else {
        return Ok(None);
    };
    match value.as_u64() {
        Some(n) => Ok(Some(n)),
        None => Err(mixed(part, format!("{key} is no number"))),
    }
}

/// Checks what a part says of itself; `i` is its place among `count`.
fn check_part(part: &GgufFile, i: usize, count: usize, by_name: bool) -> Result<()> {
    // A file that is not split may say so.
    let said = number(part, "split.count")?;
    if let Some(said) = said.filter(|said| *said > 1)
        && !by_name
    {
        return Err(Error::input(
            format!("a part of a model of {said} files, whose name does not say so"),
            part.path().display().to_string(),
            format!("name the parts as they were, NAME-00001-of-{said:05}.gguf"),
        ));
    }
    if let Some(said) = said.filter(|said| by_name && *said != count as u64) {
        return Err(mixed(
            part,
            format!("the file says that the model has {said} parts, its name says {count}"),
        ));
    }
    match number(part, "split.no")? {
        Some(no) if no != i as u64 => Err(mixed(
            part,
            format!(
                "the file says that it is part {}, its name says {}",
                no.saturating_add(1),
                i + 1
            ),
        )),
        _ => Ok(()),
    }
}

/// The error for parts that do not belong together.
fn mixed(part: &GgufFile, what: String) -> Error {
    Error::input(
        what,
        part.path().display().to_string(),
        "the parts are of different models; copy all of them again",
    )
}

/// The name of a part, taken apart.
struct PartName<'a> {
    path: &'a Path,
    prefix: &'a str,
    part: usize,
    count: usize,
}

impl<'a> PartName<'a> {
    /// The name, where it is one of a part.
    fn of(path: &'a Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (prefix, part) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            let plain = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| text.parse().ok()).flatten()
        };
        Some(Self {
            path,
            prefix,
            part: digits(part)?,
            count: digits(count)?,
        })
    }

    fn place(&self, part: usize) -> PathBuf {
        let name = format!("{}-{part:05}-of-{:05}.gguf", self.prefix, self.count);
        self.path.with_file_name(name)
    }

    fn open_all(&self) -> Result<Vec<GgufFile>> {
        let bad =
            |what: String, help: &str| Error::input(what, self.path.display().to_string(), help);
        if self.part == 0 || self.part > self.count {
            return Err(bad(
                format!("the name says part {} of {}", self.part, self.count),
                "give the file the name that it had",
            ));
        }
        let missing: Vec<String> = (1..=self.count)
            .map(|i| self.place(i))
            .filter(|place| !place.exists())
            .map(|place| place.file_name().unwrap_or_default().display().to_string())
            .collect();
        if missing.is_empty() {
            return (1..=self.count)
                .map(|i| GgufFile::open(&self.place(i)))
                .collect();
        }
        let mut named = missing[..missing.len().min(NAMED)].join(", ");
        if missing.len() > NAMED {
            named += &format!(" and {} more", missing.len() - NAMED);
        }
        Err(bad(
            format!(
                "{} of {} parts are missing: {named}",
                missing.len(),
                self.count
            ),
            "put all parts of the model in one directory",
        ))
    }
}
