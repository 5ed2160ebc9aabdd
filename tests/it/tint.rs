//! The shader under a second WGSL compiler: Tint, in Dawn for Node (npm `webgpu`), on SwiftShader. What
//! every lane does is in [`crate::lanes`]; here, that what is wrong does not pass.

use crate::support::lane::{check, strip};
use crate::support::tint::{Tint, tools};
use tq4::lane::wgpu::{SHADER, ShaderProgram};
use tq4::record::OutputType;
use tq4::synthetic::ScaleDistribution;
use tq4::tensor::Layout;

#[test]
fn a_wrong_shader_is_caught_and_one_that_does_not_compile_is_an_error() {
    let Some(tools) = tools() else {
        return;
    };
    // SwiftShader runs four invocations in step, of the eight that make such a group.
    let strip = &strip(
        18,
        Layout::new(4, 256).unwrap(),
        20,
        3,
        ScaleDistribution::Usual,
    );
    let barrier = "workgroupBarrier();\n        x = read_vectors";
    for (from, to, error) in [
        ("x[0] - x[4]", "x[4] - x[0]", "elements are outside"),
        (barrier, "x = read_vectors", "elements are outside"),
        ("x[0] - x[4]", "x[0] - lo_hi", "lo_hi"),
    ] {
        let broken = SHADER.replace(from, to);
        assert_ne!(broken, SHADER);
        let program = ShaderProgram::Own {
            text: broken,
            hand_over: false,
            output: OutputType::F32,
        };
        let mut lane = Tint::open(&tools, "tint", program);
        let found = check(&mut lane, strip).unwrap_err();
        assert!(found.contains(error), "{found}");
    }
}
