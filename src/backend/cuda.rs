//! stub
#![allow(missing_docs)]
use super::*;
use crate::error::*;
#[derive(Default)]
pub struct Options {
    pub device: usize,
    pub nvrtc: bool,
    pub x: u8,
}
pub struct Cuda(Device);
impl Cuda {
    pub fn open(_: &Options, _: &str) -> Result<Self> {
        Err(Error::unavailable("no libcuda", "", "install"))
    }
}
impl Backend for Cuda {
    fn device(&self) -> &Device {
        &self.0
    }
    fn dequantize(&mut self, _: &TqTensor<'_>, _: OutMut<'_>) -> Result<Cost> {
        Err(broke("x", "y", ""))
    }
}
