//! The order in which tensors are listed: layer 2 before layer 10.

use std::cmp::Ordering;

/// Orders names with the numbers in them as numbers. Names that differ in leading zeros alone are ordered by
/// their bytes, so that only equal names are equal.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    while !x.is_empty() && !y.is_empty() {
        let (n, m) = (digits(x), digits(y));
        let order = if n > 0 && m > 0 {
            let (p, q) = (number(&x[..n]), number(&y[..m]));
            p.len().cmp(&q.len()).then_with(|| p.cmp(q))
        } else {
            x[0].cmp(&y[0])
        };
        if order.is_ne() {
            return order;
        }
        (x, y) = (&x[n.max(1)..], &y[m.max(1)..]);
    }
    x.len().cmp(&y.len()).then_with(|| a.cmp(b))
}

/// Digits that a name starts with.
fn digits(name: &[u8]) -> usize {
    name.iter().take_while(|c| c.is_ascii_digit()).count()
}

/// Digits without leading zeros.
fn number(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|d| **d == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_count_as_numbers() {
        let mut names = [
            "layers.10.up",
            "layers.2.up",
            "layers.2",
            "layers.02.up",
            "a",
            "",
            "layers.2.down",
            "b10c3",
            "b10c20",
            "b9",
            "layers.99999999999999999999999",
            "layers.100000000000000000000000",
        ];
        names.sort_by(|a, b| natural(a, b));
        let expected = [
            "",
            "a",
            "b9",
            "b10c3",
            "b10c20",
            "layers.2",
            "layers.2.down",
            "layers.02.up",
            "layers.2.up",
            "layers.10.up",
            "layers.99999999999999999999999",
            "layers.100000000000000000000000",
        ];
        assert_eq!(names, expected);
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in "[a.0-3]{0,6}", b in "[a.0-3]{0,6}", c in "[a.0-3]{0,6}") {
            prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            prop_assert_eq!(natural(&a, &b).is_eq(), a == b);
            if natural(&a, &b).is_le() && natural(&b, &c).is_le() {
                prop_assert!(natural(&a, &c).is_le());
            }
        }
    }
}
