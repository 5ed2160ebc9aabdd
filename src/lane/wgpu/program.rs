//! What the lane runs: this project's shader, or a user's.

use super::chunk::{self, Limits};
use super::dispatch::{Dispatch, constants, entry};
use super::shader::SHADER;
use crate::error::Result;
use crate::lane::broke;
use crate::lane::kernel::{Manifest, Part, Shape, centroids};
use crate::record::{LaneName, OutputType};
use crate::tensor::TqTensor;
use std::ops::Range;

/// A shader with its interface. Public for the tests that give it to Dawn.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub enum ShaderProgram {
    /// This project's.
    Own {
        /// Its text, or a test's.
        text: String,
        /// Whether another invocation multiplies and hands its products over.
        hand_over: bool,
        /// Type of the values.
        output: OutputType,
    },
    /// A user's.
    User(Box<Manifest>),
}

/// How a binding is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// `var<uniform>`.
    Uniform,
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Out,
}

impl ShaderProgram {
    /// This project's shader.
    pub fn own(hand_over: bool, output: OutputType) -> Self {
        Self::Own {
            text: SHADER.to_owned(),
            hand_over,
            output,
        }
    }

    /// Which form of the shader it is, in words; a user's source.
    pub(super) fn variant(&self) -> String {
        match self {
            Self::User(kernel) => kernel.source_name(),
            Self::Own {
                hand_over: false, ..
            } => "products by fma".into(),
            Self::Own { .. } => "products handed over".into(),
        }
    }

    /// The text.
    pub fn text(&self) -> String {
        match self {
            Self::Own { text, .. } => text.clone(),
            Self::User(kernel) => String::from_utf8_lossy(kernel.code()).into_owned(),
        }
    }

    /// Type of the values.
    pub fn output(&self) -> OutputType {
        match self {
            Self::Own { output, .. } => *output,
            Self::User(kernel) => kernel.output(),
        }
    }

    /// The bindings of group 0, from 0.
    pub(super) fn bindings(&self) -> Vec<Binding> {
        match self {
            Self::Own { .. } => {
                let read = [Binding::Read; 3];
                let first = [Binding::Uniform].into_iter();
                first.chain(read).chain([Binding::Out]).collect()
            }
            Self::User(kernel) => {
                let arguments = kernel.arguments().map(|part| match part {
                    None => Binding::Uniform,
                    Some(Part::Out) => Binding::Out,
                    Some(_) => Binding::Read,
                });
                arguments.collect()
            }
        }
    }

    /// The parts of a tensor that go through one dispatch each, in groups.
    pub(super) fn plan_dispatches(
        &self,
        limits: &Limits,
        tensor: &TqTensor,
        lane: &LaneName,
    ) -> Result<Vec<Range<usize>>> {
        let group_bytes = tensor.layout().group_size() * self.output().size();
        match self {
            Self::Own { .. } => chunk::plan_chunks(limits, tensor, group_bytes, lane),
            Self::User(_) => chunk::plan_rows(limits, tensor, group_bytes, lane),
        }
    }

    /// Entry point and constants of the pipeline for some groups.
    ///
    /// # Errors
    /// When a size in a user's manifest cannot be computed.
    pub fn pipeline(
        &self,
        tensor: &TqTensor,
        groups: &Range<usize>,
    ) -> Result<(String, Vec<(String, f64)>)> {
        match self {
            Self::Own {
                hand_over, output, ..
            } => {
                let constants = constants(tensor.layout(), *output, *hand_over);
                Ok((entry(tensor.layout(), *output).into(), constants))
            }
            Self::User(kernel) => {
                let shape = shape(tensor, groups);
                Ok((kernel.entry(&shape)?, kernel.constants(&shape)?))
            }
        }
    }

    /// The dispatch for some groups, whole rows for a user's shader.
    ///
    /// # Errors
    /// When a size in a user's manifest cannot be computed, or is more than the device takes.
    pub fn dispatch<'a>(
        &self,
        tensor: &'a TqTensor,
        groups: Range<usize>,
        max_workgroups: u32,
    ) -> Result<Dispatch<'a>> {
        match self {
            Self::Own { output, .. } => Ok(Dispatch::new(tensor, groups, max_workgroups, *output)),
            Self::User(kernel) => {
                let grid = [max_workgroups; 3];
                let launch = kernel.launch(&shape(tensor, &groups), &centroids(tensor), grid)?;
                Ok(Dispatch::of(launch, tensor, groups, kernel.output()))
            }
        }
    }
}

/// Of groups that are whole rows.
fn shape(tensor: &TqTensor, groups: &Range<usize>) -> Shape {
    Shape::of(tensor, groups.len() / tensor.groups_per_row())
}

/// The device did not take a user's shader.
pub(super) fn refused(lane: &LaneName, kernel: &Manifest, what: &str) -> crate::Error {
    let help = match what.to_lowercase().contains("binding") {
        true => {
            "its bindings are those of the manifest's arguments, in group 0 and in order: \
             var<uniform>, var<storage, read>, and var<storage, read_write> for out"
        }
        false => "look at the source, and at entry and overrides of the manifest",
    };
    broke(lane, format!("{}: {what}", kernel.source_name()), help)
}
