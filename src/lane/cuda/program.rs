//! What the lane runs: this project's kernel, or a user's.

use super::api::{Api, Handle};
use super::compile::{CudaSource, OWN_OPTIONS, compile};
use super::kernel::MAX_GRID;
use super::module::{Image, Module};
use super::nvrtc::Version;
use super::own::{BLOCK_THREADS, OwnKernel, Room};
use super::signature::mismatch;
use crate::codec::Normalisation;
use crate::error::Result;
use crate::lane::broke;
use crate::lane::kernel::{Form, Launch, Manifest, Shape, centroids};
use crate::record::{LaneName, OutputType};
use crate::tensor::TqTensor;

/// Bytes of shared memory that a kernel gets without asking for more.
const SHARED_MEMORY: u32 = 48 << 10;

/// A kernel in a form that is ready, or made ready for each tensor.
#[derive(Debug)]
pub(super) enum CudaProgram {
    /// This project's, with an entry point for each layout and type.
    Own(Brought),
    /// A user's.
    User(Box<User>),
}

/// This project's kernels.
#[derive(Debug)]
pub(super) struct Brought {
    /// That for plain layouts.
    pub(super) own: OwnKernel,
    pub(super) module: Module,
    /// [`OwnKernel::Codecs`], from the first tensor on that it is for.
    pub(super) codecs: Option<Module>,
    pub(super) origin: Origin,
    pub(super) output: OutputType,
    /// Of the device.
    pub(super) capability: (i32, i32),
    pub(super) multiprocessors: u32,
    /// The driver, for what it does not read.
    pub(super) driver: String,
}

/// Where this project's kernels come from.
#[derive(Debug)]
pub(super) enum Origin {
    /// From PTX in their place, which has every entry point that is asked for.
    Given(String),
    /// From the NVRTC of this machine, for a driver of this CUDA version.
    Nvrtc(Version),
    /// From the PTX that is part of this program.
    Committed,
}

impl Origin {
    /// One of them for a device.
    pub(super) fn image(&self, own: OwnKernel, capability: (i32, i32)) -> Result<Image> {
        match self {
            Self::Given(ptx) => Ok(Image::Ptx(ptx.clone())),
            Self::Nvrtc(version) => {
                let with = OWN_OPTIONS.map(str::to_owned);
                compile(&own.source(), &with, capability, *version)
            }
            Self::Committed => Ok(Image::Ptx(own.ptx().to_owned())),
        }
    }
}

impl Brought {
    /// The entry point for a tensor, and what it is launched with.
    fn ready(&mut self, api: &'static Api, tensor: &TqTensor) -> Result<(Handle, Launch)> {
        let layout = tensor.layout();
        let divides = layout.normalisation() == Normalisation::Divide;
        if divides && !tensor.codebook().exact_division() {
            let what = "the codebook has a centroid that is not 0 and smaller than 2^-50, \
                        for which the kernel's division is not the reference's";
            let help = "validate it without this lane";
            return Err(broke(&LaneName::Cuda, what, help));
        }
        let (output, multiprocessors) = (self.output, self.multiprocessors);
        let own = self.own.for_layout(layout, output);
        let variant = own.variant(self.capability, multiprocessors, tensor, output);
        let variant = variant.ok_or_else(|| {
            let what = "no kernel has this layout";
            broke(&LaneName::Cuda, what, "validate it without this lane")
        })?;
        let module = self.module(api, own)?;
        let function = module.function(&own.entry(variant, layout, output))?;
        let room = Room {
            multiprocessors,
            blocks: module.room(function, BLOCK_THREADS)?,
        };
        let launch = own.launch(variant, tensor, room).ok_or_else(|| {
            let what = format!(
                "{} elements are more than one launch takes",
                tensor.elements()
            );
            broke(&LaneName::Cuda, what, "take smaller strips")
        })?;
        Ok((function, launch))
    }

    /// The module that has one of the kernels.
    fn module(&mut self, api: &'static Api, own: OwnKernel) -> Result<&Module> {
        if own != OwnKernel::Codecs || matches!(self.origin, Origin::Given(_)) {
            return Ok(&self.module);
        }
        let codecs = match self.codecs.take() {
            Some(loaded) => loaded,
            None => {
                let image = self.origin.image(own, self.capability)?;
                Module::load(api, &image, &self.driver)?
            }
        };
        Ok(self.codecs.insert(codecs))
    }
}

/// A user's kernel.
#[derive(Debug)]
pub(super) struct User {
    manifest: Manifest,
    /// Compute capability of the device.
    capability: (i32, i32),
    /// CUDA version of the driver.
    version: Version,
    /// The driver, for what it does not read.
    driver: String,
    /// The module that was loaded last.
    loaded: Option<LoadedModule>,
}

/// A user's module.
#[derive(Debug)]
struct LoadedModule {
    /// The options that it was compiled with.
    options: Vec<String>,
    /// Its text, where it has one.
    ptx: Option<String>,
    module: Module,
}

impl User {
    pub(super) fn new(
        manifest: Manifest,
        capability: (i32, i32),
        version: Version,
        driver: String,
    ) -> Self {
        Self {
            manifest,
            capability,
            version,
            driver,
            loaded: None,
        }
    }

    /// The module for a shape.
    fn module(&mut self, api: &'static Api, shape: &Shape) -> Result<&LoadedModule> {
        let constants = self.manifest.constants(shape)?;
        let defines = constants
            .into_iter()
            .map(|(name, v)| format!("-D{name}={v}"));
        let own = self.manifest.options().iter().cloned();
        let options: Vec<String> = own.chain(defines).collect();
        let loaded = match self.loaded.take().filter(|l| l.options == options) {
            Some(kept) => kept,
            None => {
                let image = self.image(&options)?;
                let module = Module::load(api, &image, &self.driver)?;
                let ptx = match image {
                    Image::Ptx(text) => Some(text),
                    Image::Cubin(_) => None,
                };
                LoadedModule {
                    options,
                    ptx,
                    module,
                }
            }
        };
        Ok(self.loaded.insert(loaded))
    }

    fn image(&self, options: &[String]) -> Result<Image> {
        let text = || String::from_utf8_lossy(self.manifest.code()).into_owned();
        Ok(match self.manifest.form() {
            Form::Cubin => Image::Cubin(self.manifest.code().to_vec()),
            Form::Ptx => Image::Ptx(text()),
            Form::Cuda | Form::Wgsl => {
                let source = CudaSource {
                    name: &self.manifest.source_name(),
                    text: &text(),
                    help: "NVRTC has no headers of the system: those that it misses need their folder in options",
                };
                compile(&source, options, self.capability, self.version)?
            }
        })
    }
}

impl CudaProgram {
    /// The entry point for a tensor, and what it is launched with. The device's context is current.
    pub(super) fn ready(
        &mut self,
        api: &'static Api,
        tensor: &TqTensor,
    ) -> Result<(Handle, Launch)> {
        match self {
            Self::Own(brought) => brought.ready(api, tensor),
            Self::User(user) => {
                let shape = Shape::of(tensor, tensor.rows());
                let grid = [MAX_GRID, 65_535, 65_535];
                let launch = user.manifest.launch(&shape, &centroids(tensor), grid)?;
                let entry = user.manifest.entry(&shape)?;
                let LoadedModule { module, ptx, .. } = user.module(api, &shape)?;
                let function = module.function(&entry)?;
                let differs = |ptx: &String| mismatch(ptx, &entry, &launch.arguments);
                if let Some(what) = ptx.as_ref().and_then(differs) {
                    let help = "docs/manifest.md has the words of the arguments";
                    return Err(broke(&LaneName::Cuda, what, help));
                }
                if launch.shared_memory > SHARED_MEMORY {
                    module.allow_shared_memory(function, launch.shared_memory)?;
                }
                Ok((function, launch))
            }
        }
    }
}
