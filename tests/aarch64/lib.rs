//! The reference and what it needs, as in tq4.

#![allow(dead_code)] // what the rest of tq4 uses

#[path = "../../src/codebook.rs"]
pub mod codebook;
#[path = "../../src/encode/mod.rs"]
pub mod encode;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/fwht.rs"]
pub mod fwht;
#[path = "../../src/oracle.rs"]
pub mod oracle;
#[path = "../../src/reference/mod.rs"]
pub mod reference;
#[path = "../../src/synthetic.rs"]
pub mod synthetic;
#[path = "../../src/tensor.rs"]
pub mod tensor;
