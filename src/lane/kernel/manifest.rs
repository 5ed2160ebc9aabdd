//! A kernel as its manifest describes it.

use super::expression::{Expression, Shape};
use super::launch::{Argument, CENTROIDS, Launch, Part, ScalarValue};
use crate::error::{Error, Result};
use crate::record::{LaneName, OutputType};
use std::path::PathBuf;

/// Most threads of a block of any CUDA device, in all and in x, y and z.
const MAX_THREADS: u32 = 1024;
const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];

/// What a kernel is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// CUDA C++, compiled by NVRTC.
    Cuda,
    /// PTX text.
    Ptx,
    /// A cubin or fatbin.
    Cubin,
    /// WGSL.
    Wgsl,
}

impl Form {
    /// By the end of a file's name.
    pub(super) fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "cu" => Some(Self::Cuda),
            "ptx" => Some(Self::Ptx),
            "cubin" | "fatbin" => Some(Self::Cubin),
            "wgsl" => Some(Self::Wgsl),
            _ => None,
        }
    }

    /// Whether it runs on a CUDA device.
    pub fn is_cuda(self) -> bool {
        self != Self::Wgsl
    }
}

/// Types of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarType {
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
}

impl ScalarType {
    pub(super) const ALL: [(&'static str, Self); 6] = [
        ("u32", Self::U32),
        ("i32", Self::I32),
        ("f32", Self::F32),
        ("u64", Self::U64),
        ("i64", Self::I64),
        ("f64", Self::F64),
    ];

    fn name(self) -> &'static str {
        let named = Self::ALL.into_iter().find(|(_, of)| *of == self);
        named.expect("all are there").0
    }

    /// The value of an expression as this type.
    fn value(self, of: &Expression, shape: &Shape) -> Result<ScalarValue, String> {
        let (int, float) = (|| of.integer(shape), || of.float(shape));
        let small = |int: i64| format!("\"{of}\" is {int}, which is no {}", self.name());
        let eight = |bytes| ScalarValue { bytes, size: 8 };
        Ok(match self {
            Self::U32 => int()
                .and_then(|v| u32::try_from(v).map_err(|_| small(v)))?
                .into(),
            Self::I32 => {
                let value = int().and_then(|v| i32::try_from(v).map_err(|_| small(v)))?;
                ScalarValue::word(value.to_le_bytes())
            }
            Self::F32 => ScalarValue::word((float()? as f32).to_le_bytes()),
            Self::U64 => {
                let value = int().and_then(|v| u64::try_from(v).map_err(|_| small(v)))?;
                eight(value.to_le_bytes())
            }
            Self::I64 => eight(int()?.to_le_bytes()),
            Self::F64 => eight(float()?.to_le_bytes()),
        })
    }
}

/// A member of a uniform struct, or a scalar.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    Scalar(ScalarType, At<Expression>),
    /// `array<vec4<f32>, 4>`.
    Centroids,
}

/// An argument of the manifest.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ManifestArgument {
    Part(Part),
    Scalar(ScalarType, At<Expression>),
    Uniform(Vec<Field>),
}

/// Something with the line of the manifest that it stands in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct At<T> {
    pub(super) value: T,
    /// From 1.
    pub(super) line: usize,
}

/// A kernel of the user's, as read from its manifest and its source.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub(super) path: PathBuf,
    pub(super) name: LaneName,
    pub(super) source: PathBuf,
    pub(super) code: Vec<u8>,
    pub(super) form: Form,
    /// Text, expression, text, ...: `tq4_b{bits}`.
    pub(super) entry: At<Vec<NamePiece>>,
    pub(super) arguments: Vec<ManifestArgument>,
    pub(super) grid: At<Vec<Expression>>,
    pub(super) block: At<Vec<Expression>>,
    pub(super) shared_memory: Option<At<Expression>>,
    pub(super) options: Vec<String>,
    pub(super) constants: Vec<(String, At<Expression>)>,
    pub(super) output: OutputType,
    pub(super) hash: String,
}

/// Part of an entry point's name.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NamePiece {
    Text(String),
    Size(Expression),
}

impl Manifest {
    /// The lane's name.
    pub fn name(&self) -> &LaneName {
        &self.name
    }

    /// Type of the values that the kernel writes.
    pub fn output(&self) -> OutputType {
        self.output
    }

    /// What it is written in.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The source's bytes: text, or a binary.
    pub fn code(&self) -> &[u8] {
        &self.code
    }

    /// Name of the source, without its folder.
    pub fn source_name(&self) -> String {
        let name = self.source.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// First 32 hex digits of the SHA-256 of manifest and source.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Options for NVRTC, without those of the constants.
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// What each argument, or binding, is of: a piece of memory, or `None` for scalars.
    pub fn arguments(&self) -> impl Iterator<Item = Option<Part>> {
        self.arguments.iter().map(|given| match given {
            ManifestArgument::Part(part) => Some(*part),
            ManifestArgument::Scalar(..) | ManifestArgument::Uniform(_) => None,
        })
    }

    fn bad(&self, line: usize, what: String) -> Error {
        // A lane's record keeps what was found, not where.
        let place = format!("{}:{line}", self.path.display());
        let what = format!("{place}: {what}");
        Error::input(what, place, "docs/manifest.md has the words of a manifest")
    }

    /// The entry point's name for a launch.
    ///
    /// # Errors
    /// When a size in it cannot be computed.
    pub fn entry(&self, shape: &Shape) -> Result<String> {
        let mut name = String::new();
        for piece in &self.entry.value {
            match piece {
                NamePiece::Text(text) => name.push_str(text),
                NamePiece::Size(size) => {
                    let size = size.integer(shape);
                    let size = size.map_err(|e| self.bad(self.entry.line, e))?;
                    name.push_str(&size.to_string());
                }
            }
        }
        Ok(name)
    }

    /// Defines of CUDA C++, or overrides of a shader, with their values. Integers are exact in f64 up to
    /// 2^53, which no size reaches.
    ///
    /// # Errors
    /// When one cannot be computed.
    pub fn constants(&self, shape: &Shape) -> Result<Vec<(String, f64)>> {
        let all = self.constants.iter().map(|(name, value)| {
            let number = value.value.number(shape).map(|n| n.float());
            let finite = number.and_then(|v| match v.is_finite() {
                true => Ok(v),
                false => Err(format!("\"{}\" is {v}", value.value)),
            });
            let number = finite.map_err(|e| self.bad(value.line, e))?;
            Ok((name.clone(), number))
        });
        all.collect()
    }

    /// What the kernel is launched with, `centroids` for a uniform struct that holds them. Blocks, or
    /// workgroups, are at most `max_grid` in x, y and z.
    ///
    /// # Errors
    /// When a size cannot be computed, or is more than a device takes.
    pub fn launch(
        &self,
        shape: &Shape,
        centroids: &[f32; CENTROIDS],
        max_grid: [u32; 3],
    ) -> Result<Launch> {
        let grid = self.three("grid", &self.grid, shape, max_grid)?;
        let block = self.three("block", &self.block, shape, MAX_BLOCK)?;
        let threads: u32 = block.iter().product();
        if threads > MAX_THREADS {
            let what = format!("a block of {threads} threads, at most {MAX_THREADS} run");
            return Err(self.bad(self.block.line, what));
        }
        let shared_memory = match &self.shared_memory {
            None => 0,
            Some(At { value, line }) => {
                let bytes = value.integer(shape).and_then(|bytes| {
                    u32::try_from(bytes).map_err(|_| format!("{bytes} bytes of shared memory"))
                });
                bytes.map_err(|e| self.bad(*line, e))?
            }
        };
        let scalar = |of: ScalarType, at: &At<Expression>| {
            let value = of.value(&at.value, shape);
            value.map_err(|e| self.bad(at.line, e))
        };
        let arguments = self.arguments.iter().map(|given| {
            Ok(match given {
                ManifestArgument::Part(part) => Argument::Part(*part),
                ManifestArgument::Scalar(of, at) => Argument::Value(scalar(*of, at)?),
                ManifestArgument::Uniform(fields) => {
                    let mut bytes = Vec::new();
                    for field in fields {
                        match field {
                            Field::Scalar(of, at) => {
                                let value = scalar(*of, at)?;
                                bytes.extend_from_slice(&value.bytes[..value.size]);
                            }
                            Field::Centroids => {
                                // A vec4 lies at a multiple of its size.
                                bytes.resize(bytes.len().next_multiple_of(16), 0);
                                bytes.extend_from_slice(bytemuck::cast_slice(centroids));
                            }
                        }
                    }
                    bytes.resize(bytes.len().next_multiple_of(16), 0);
                    Argument::Uniform(bytes)
                }
            })
        });
        Ok(Launch {
            grid,
            block,
            shared_memory,
            arguments: arguments.collect::<Result<_>>()?,
        })
    }

    /// Up to three sizes of at least 1; what is left out is 1.
    fn three(
        &self,
        what: &str,
        given: &At<Vec<Expression>>,
        shape: &Shape,
        most: [u32; 3],
    ) -> Result<[u32; 3]> {
        let mut sizes = [1; 3];
        for (i, expression) in given.value.iter().enumerate() {
            let size = expression.integer(shape);
            let size = size.map_err(|e| self.bad(given.line, e))?;
            sizes[i] = u32::try_from(size)
                .ok()
                .filter(|s| (1..=most[i]).contains(s))
                .ok_or_else(|| {
                    let axis = ["x", "y", "z"][i];
                    let what = format!(
                        "{what} is {size} in {axis} (\"{expression}\" for {} x {}), expected 1 to {}",
                        shape.rows, shape.cols, most[i]
                    );
                    self.bad(given.line, what)
                })?;
        }
        Ok(sizes)
    }
}
