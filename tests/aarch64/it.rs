//! The integration tests of the reference that take no command.

#[path = "../it/reference.rs"]
mod reference;
#[path = "../it/reference_simd.rs"]
mod reference_simd;

/// The part of those tests' `support` that they use.
mod support {
    pub mod lane {
        use tq4::tensor::{GROUP_SIZES, Layout};

        pub fn layouts() -> impl Iterator<Item = Layout> {
            (2..=4).flat_map(|bits| GROUP_SIZES.map(|n| Layout::new(bits, n).unwrap()))
        }
    }

    pub fn not_run(what: &str, why: &str) {
        panic!("{what}: {why}");
    }
}
