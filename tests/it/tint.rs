//! The shader under a second WGSL compiler: Tint, in Dawn for Node (npm `webgpu`), on SwiftShader. What
//! every lane does is in [`crate::lanes`]; here, that what is wrong does not pass.

use crate::support::lane::{check, random_strips};
use crate::support::tint::{Tint, tools};
use tq4::lane::wgpu::{Program, shader};
use tq4::record::OutputType;

#[test]
fn a_wrong_shader_is_caught_and_one_that_does_not_compile_is_an_error() {
    let Some(tools) = tools() else {
        return;
    };
    let strip = &random_strips(18, 1)[0];
    for (from, to, error) in [
        ("hi = a - hi;", "hi = hi - a;", "elements are outside"),
        ("hi = a - hi;", "hi = a - lo_hi;", "lo_hi"),
    ] {
        let broken = shader(false).replace(from, to);
        let program = Program::Own {
            text: broken,
            reach: 1,
            output: OutputType::F32,
        };
        let mut lane = Tint::open(&tools, "tint", program).unwrap();
        let found = check(&mut lane, strip).unwrap_err();
        assert!(found.contains(error), "{found}");
    }
}
