//! stub
#![allow(missing_docs)]
use super::*;
use crate::error::*;
#[derive(Default)]
pub enum Select {
    #[default]
    Auto,
    Index(usize),
    Name(String),
}
#[derive(Default)]
pub struct Options {
    pub adapter: Select,
    pub x: u8,
}
pub struct Info {
    pub index: usize,
}
pub fn list() -> Vec<Info> {
    vec![]
}
pub struct Wgpu(Device);
impl Wgpu {
    pub fn open(_: &Options, _: &str) -> Result<Self> {
        Err(Error::unavailable("no adapter", "", "install"))
    }
}
impl Backend for Wgpu {
    fn device(&self) -> &Device {
        &self.0
    }
    fn dequantize(&mut self, _: &TqTensor<'_>, _: OutMut<'_>) -> Result<Cost> {
        Err(broke("x", "y", ""))
    }
}
