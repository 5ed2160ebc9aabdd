//! Reading a manifest.

use super::expression::Expression;
use super::launch::Part;
use super::manifest::{At, Field, Form, Manifest, ManifestArgument, NamePiece, ScalarType};
use crate::error::{Error, Result};
use crate::hash::hex;
use crate::record::{LaneName, OutputType};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::{Spanned, Value};

/// Largest manifest and source, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;
const MAX_SOURCE: u64 = 64 << 20;

/// The file as it stands. Values are taken as they are, so that what is wrong with one is said in this
/// program's words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    name: Spanned<String>,
    source: Spanned<String>,
    entry: Spanned<String>,
    arguments: Spanned<Vec<Spanned<Value>>>,
    grid: Spanned<Value>,
    block: Option<Spanned<Value>>,
    shared_memory: Option<Spanned<Value>>,
    output: Option<Spanned<String>>,
    options: Option<Spanned<Vec<String>>>,
    defines: Option<Spanned<BTreeMap<String, Spanned<Value>>>>,
    overrides: Option<Spanned<BTreeMap<String, Spanned<Value>>>>,
}

/// A text with its path, to say where in it something is wrong.
struct ManifestText<'a> {
    path: &'a Path,
    text: &'a str,
}

/// What is wrong, and where in the text.
struct Wrong {
    what: String,
    span: Range<usize>,
}

type Parsed<T> = std::result::Result<T, Wrong>;

fn wrong<T>(span: Range<usize>, what: impl Into<String>) -> Parsed<T> {
    let what = what.into();
    Err(Wrong { what, span })
}

impl ManifestText<'_> {
    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        1 + before.iter().filter(|b| **b == b'\n').count()
    }

    fn error(&self, wrong: Wrong) -> Error {
        let place = format!("{}:{}", self.path.display(), self.line(wrong.span.start));
        let help = "docs/manifest.md has the words of a manifest";
        Error::input(wrong.what, place, help)
    }

    fn at<T>(&self, span: Range<usize>, value: T) -> At<T> {
        let line = self.line(span.start);
        At { value, line }
    }
}

impl Manifest {
    /// Reads a manifest and the source that it names, which lies beside it unless its path says otherwise.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read; [`Error::Input`] with file and line for whatever the
    /// manifest has wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read(path, MAX_MANIFEST)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            let help = "name the manifest, a TOML file; it names the source";
            Error::input("not UTF-8 text", path.display().to_string(), help)
        })?;
        let source = ManifestText { path, text };
        let raw: RawManifest = toml::from_str(text).map_err(|e| {
            source.error(Wrong {
                what: e.message().to_owned(),
                span: e.span().unwrap_or(0..0),
            })
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let code_path = folder.join(raw.source.get_ref());
        let form = form(&raw.source).map_err(|w| source.error(w))?;
        let code = read(&code_path, MAX_SOURCE)?;
        if form != Form::Cubin && std::str::from_utf8(&code).is_err() {
            return Err(source.error(Wrong {
                what: format!("{} is no text", code_path.display()),
                span: raw.source.span(),
            }));
        }
        let mut hash = Sha256::new();
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
        hash.update(&code);
        let code = Code {
            form,
            path: code_path,
            bytes: code,
            hash: hex(&hash.finalize()[..16]),
        };
        take(raw, &source, code).map_err(|w| source.error(w))
    }
}

/// The kernel's source, or its machine code.
struct Code {
    form: Form,
    path: PathBuf,
    bytes: Vec<u8>,
    /// With the manifest's.
    hash: String,
}

/// A whole file, refused where it is larger than `most` or no file.
fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let io = |e| Error::io("read", path, e);
    let file = std::fs::metadata(path).map_err(io)?;
    if !file.is_file() || file.len() > most {
        let what = match file.is_file() {
            true => format!("{} bytes, more than {most}", file.len()),
            false => "not a regular file".to_owned(),
        };
        let help = "--kernel names a manifest in TOML, and that a source";
        return Err(Error::input(what, path.display().to_string(), help));
    }
    std::fs::read(path).map_err(io)
}

fn form(source: &Spanned<String>) -> Parsed<Form> {
    let extension = Path::new(source.get_ref()).extension().unwrap_or_default();
    match Form::of_extension(&extension.to_string_lossy()) {
        Some(form) => Ok(form),
        None => wrong(
            source.span(),
            format!(
                "source {:?} found, expected a name that ends with .cu, .ptx, .cubin, .fatbin or .wgsl",
                source.get_ref()
            ),
        ),
    }
}

/// Checks what was read.
fn take(raw: RawManifest, source: &ManifestText<'_>, code: Code) -> Parsed<Manifest> {
    let form = code.form;
    let name = LaneName::own(raw.name.get_ref());
    let name = name.or_else(|e| wrong(raw.name.span(), e.problem().what.clone()))?;
    let output = match &raw.output {
        None => OutputType::default(),
        Some(text) => {
            let output = text.get_ref().parse();
            output.or_else(|_| {
                let what = format!(
                    "output {:?} found, expected bf16, f16 or f32",
                    text.get_ref()
                );
                wrong(text.span(), what)
            })?
        }
    };
    let arguments = raw.arguments.get_ref().iter();
    let arguments: Vec<ManifestArgument> = arguments
        .map(|a| argument(a, source, form))
        .collect::<Parsed<_>>()?;
    let outs = arguments
        .iter()
        .filter(|a| **a == ManifestArgument::Part(Part::Out));
    if outs.count() != 1 {
        let what = "arguments have to name \"out\" once";
        return wrong(raw.arguments.span(), what);
    }
    let grid = sizes(&raw.grid, "grid", source)?;
    let block = match (&raw.block, form.is_cuda()) {
        (Some(block), true) => sizes(block, "block", source)?,
        (None, false) => source.at(0..0, Vec::new()),
        (None, true) => {
            return wrong(
                raw.grid.span(),
                "grid is there without block, the threads of a block: block = 128",
            );
        }
        (Some(block), false) => {
            let what = "block is for CUDA; a shader's @workgroup_size says it";
            return wrong(block.span(), what);
        }
    };
    let only = |span: Range<usize>, key: &str, what: &str| {
        wrong(
            span,
            format!("{key} is for {what}, source is {:?}", raw.source.get_ref()),
        )
    };
    let shared_memory = match &raw.shared_memory {
        Some(value) if !form.is_cuda() => return only(value.span(), "shared_memory", "CUDA"),
        Some(value) => Some(expression(value, "shared_memory", source)?),
        None => None,
    };
    let options = match &raw.options {
        Some(o) if form != Form::Cuda => return only(o.span(), "options", "CUDA C++ (.cu)"),
        Some(options) => options.get_ref().clone(),
        None => Vec::new(),
    };
    if let Some(o) = raw.defines.as_ref().filter(|_| form != Form::Cuda) {
        return only(o.span(), "defines", "CUDA C++ (.cu)");
    }
    if let Some(o) = raw.overrides.as_ref().filter(|_| form != Form::Wgsl) {
        return only(o.span(), "overrides", "WGSL");
    }
    let constants = raw.defines.or(raw.overrides);
    let constants = constants.iter().flat_map(|c| c.get_ref());
    let constants = constants
        .map(|(name, value)| Ok((name.clone(), expression(value, name, source)?)))
        .collect::<Parsed<_>>()?;
    Ok(Manifest {
        name,
        form,
        entry: entry(&raw.entry, source)?,
        arguments,
        grid,
        block,
        shared_memory,
        options,
        constants,
        output,
        path: source.path.to_owned(),
        source: code.path,
        code: code.bytes,
        hash: code.hash,
    })
}

/// An expression, or a plain number.
fn expression(
    value: &Spanned<Value>,
    key: &str,
    source: &ManifestText<'_>,
) -> Parsed<At<Expression>> {
    let text = match value.get_ref() {
        Value::String(text) => text.clone(),
        Value::Integer(int) => int.to_string(),
        Value::Float(float) => format!("{float:?}"),
        Value::Boolean(flag) => u8::from(*flag).to_string(),
        other => {
            let what = format!(
                "{key} has type {}, expected a number or an expression",
                other.type_str()
            );
            return wrong(value.span(), what);
        }
    };
    let parsed = text.parse().or_else(|e| wrong(value.span(), e))?;
    Ok(source.at(value.span(), parsed))
}

/// One to three expressions.
fn sizes(
    value: &Spanned<Value>,
    key: &str,
    source: &ManifestText<'_>,
) -> Parsed<At<Vec<Expression>>> {
    let one = |v: &Value| {
        let spanned = Spanned::new(value.span(), v.clone());
        expression(&spanned, key, source).map(|at| at.value)
    };
    let all = match value.get_ref() {
        Value::Array(all) if (1..=3).contains(&all.len()) => {
            all.iter().map(one).collect::<Parsed<_>>()?
        }
        Value::Array(all) => {
            let what = format!("{key} has {} sizes, expected one to three", all.len());
            return wrong(value.span(), what);
        }
        single => vec![one(single)?],
    };
    Ok(source.at(value.span(), all))
}

/// `u32:rows`: the type and the expression.
fn scalar(
    text: &str,
    span: Range<usize>,
    source: &ManifestText<'_>,
) -> Parsed<Option<(ScalarType, At<Expression>)>> {
    let Some((name, expression)) = text.split_once(':') else {
        return Ok(None);
    };
    let Some((_, of)) = ScalarType::ALL.into_iter().find(|(n, _)| *n == name) else {
        let names = ScalarType::ALL.map(|(n, _)| n).join(", ");
        return wrong(
            span,
            format!("no type {name:?} in {text:?}, types are {names}"),
        );
    };
    let parsed = expression.trim().parse();
    let parsed = parsed.or_else(|e| wrong(span.clone(), e))?;
    Ok(Some((of, source.at(span, parsed))))
}

fn argument(
    value: &Spanned<Value>,
    source: &ManifestText<'_>,
    form: Form,
) -> Parsed<ManifestArgument> {
    let span = value.span();
    match value.get_ref() {
        Value::String(text) => {
            if let Some(part) = Part::ALL.into_iter().find(|p| p.word() == text) {
                return Ok(ManifestArgument::Part(part));
            }
            match scalar(text, span.clone(), source)? {
                Some(_) if !form.is_cuda() => {
                    let what = format!(
                        "{text:?} is a scalar, which a shader gets in {{ uniform = [...] }}"
                    );
                    wrong(span, what)
                }
                Some((of, at)) => Ok(ManifestArgument::Scalar(of, at)),
                None => {
                    let words = Part::ALL.map(Part::word);
                    wrong(
                        span,
                        format!(
                            "no argument {text:?}, expected {}, or a scalar as u32:rows",
                            words.join(", ")
                        ),
                    )
                }
            }
        }
        Value::Table(table) if form.is_cuda() => {
            let key = table.keys().next().map_or("", String::as_str);
            wrong(
                span,
                format!("{{ {key} = ... }} is for WGSL; CUDA takes scalars one by one"),
            )
        }
        Value::Table(table) => match (table.get("uniform"), table.len()) {
            (Some(Value::Array(fields)), 1) if !fields.is_empty() => {
                let fields = fields.iter().map(|f| field(f, span.clone(), source));
                Ok(ManifestArgument::Uniform(fields.collect::<Parsed<_>>()?))
            }
            _ => wrong(
                span,
                "a table found, expected { uniform = [\"u32:groups\", ...] }",
            ),
        },
        other => wrong(
            span,
            format!(
                "type {} found, expected the word of an argument",
                other.type_str()
            ),
        ),
    }
}

/// A member of a uniform struct.
fn field(value: &Value, span: Range<usize>, source: &ManifestText<'_>) -> Parsed<Field> {
    let text = value.as_str().unwrap_or_default();
    if text == Part::Centroids.word() {
        return Ok(Field::Centroids);
    }
    match scalar(text, span.clone(), source)? {
        Some((ScalarType::U64 | ScalarType::I64 | ScalarType::F64, _)) => wrong(
            span,
            format!("{text:?} has 8 bytes, which WGSL has no type for"),
        ),
        Some((of, at)) => Ok(Field::Scalar(of, at)),
        None => wrong(
            span,
            format!("{text:?} in a uniform struct, expected u32:, i32:, f32: or centroids"),
        ),
    }
}

/// Splits `tq4_b{bits}` at its braces.
fn entry(text: &Spanned<String>, source: &ManifestText<'_>) -> Parsed<At<Vec<NamePiece>>> {
    let (span, text) = (text.span(), text.get_ref());
    let mut pieces = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((size, after)) = after.split_once('}') else {
            return wrong(
                span,
                format!("entry {text:?} has a brace that does not end"),
            );
        };
        pieces.push(NamePiece::Text(before.to_owned()));
        let size = size.parse().or_else(|e| wrong(span.clone(), e))?;
        pieces.push(NamePiece::Size(size));
        rest = after;
    }
    pieces.push(NamePiece::Text(rest.to_owned()));
    let stray = |p: &NamePiece| matches!(p, NamePiece::Text(text) if text.contains('}'));
    if pieces.iter().any(stray) {
        return wrong(
            span,
            format!("entry {text:?} has a brace that does not begin"),
        );
    }
    if text.is_empty() || text.contains('\0') {
        return wrong(
            span,
            format!("entry {text:?} found, expected the kernel's name"),
        );
    }
    Ok(source.at(span, pieces))
}
