//! The format `tq3_native`: safetensors with `tq_config.json`.

mod codec;

pub use codec::layout;
