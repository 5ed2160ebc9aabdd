//! The fast Walsh-Hadamard transform, natural order, f32.

/// One pass of butterflies over a group, strides 1, 2, 4, ... ascending.
///
/// Per pair the lower lane gets `a + b`, the upper lane `a - b`: lower minus upper. A kernel that
/// computes upper minus lower is wrong in the sign of every element with an odd number of one bits in
/// its index, and in nothing else.
///
/// # Panics
/// In debug builds, when the length is not a power of two.
pub fn butterflies(x: &mut [f32]) {
    debug_assert!(x.len().is_power_of_two());
    let mut stride = 1;
    while stride < x.len() {
        for block in x.chunks_exact_mut(2 * stride) {
            let (lower, upper) = block.split_at_mut(stride);
            for (l, u) in lower.iter_mut().zip(upper) {
                let (a, b) = (*l, *u);
                *l = a + b;
                *u = a - b;
            }
        }
        stride *= 2;
    }
}

/// The encoder's transform: butterflies, then a division by f32 `sqrt(n)`, as published.
pub fn forward(x: &mut [f32]) {
    butterflies(x);
    let root = (x.len() as f32).sqrt();
    for v in x {
        *v /= root;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sign_of_each_entry_is_the_parity_of_i_and_j() {
        for n in [1usize, 2, 32, 256] {
            for j in 0..n {
                let mut x = vec![0.0f32; n];
                x[j] = 1.0;
                butterflies(&mut x);
                for (i, v) in x.iter().enumerate() {
                    let want = if (i & j).count_ones() % 2 == 0 {
                        1.0
                    } else {
                        -1.0
                    };
                    assert_eq!(*v, want, "n {n}, entry ({i}, {j})");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn forward_twice_gives_the_input_back(x in prop::collection::vec(-1f32..1.0, 128)) {
            let mut y = x.clone();
            forward(&mut y);
            forward(&mut y);
            for (a, b) in x.iter().zip(&y) {
                prop_assert!((a - b).abs() < 1e-5);
            }
        }
    }
}
