//! Plain loops, compiled for several widths of vectors.

/// Compiles a function for AVX-512, AVX2 and the machines that have neither, and takes what this one has at run time. Its
/// values are the same: compilers reorder no floating-point operations.
macro_rules! widest {
    ($($function:tt)*) => {
        #[multiversion::multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
            "x86_64+avx2",
        ))]
        $($function)*
    };
}

pub(crate) use widest;
