//! Arithmetic over the sizes of a strip: `(groups + 127) / 128`.

use crate::tensor::{Layout, TqTensor};
use exmex::{
    BinOp, Express, FlatEx, MakeOperators, MatchLiteral, Operator, literal_matcher_from_pattern,
    ops_factory,
};
use std::fmt;
use std::str::FromStr;

/// Longest expression, in bytes: it is parsed recursively.
const MAX_LENGTH: usize = 200;

/// The sizes that expressions are over, by name.
pub const SIZES: [&str; 10] = [
    "rows",
    "cols",
    "groups",
    "groups_per_row",
    "group_size",
    "bits",
    "stored_bits",
    "scale_elements",
    "group_bytes",
    "elements",
];

/// What one launch works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows that are decoded.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// How codes are stored.
    pub layout: Layout,
}

impl Shape {
    /// Of so many rows of a tensor.
    pub fn of(tensor: &TqTensor, rows: usize) -> Self {
        Self {
            rows,
            cols: tensor.cols(),
            layout: tensor.layout(),
        }
    }

    /// `rows * cols`.
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }

    /// The size of that name in [`SIZES`].
    fn size(&self, name: &str) -> Option<i64> {
        let groups_per_row = self.cols / self.layout.group_size();
        let size = match name {
            "rows" => self.rows,
            "cols" => self.cols,
            "groups" => self.rows * groups_per_row,
            "groups_per_row" => groups_per_row,
            "group_size" => self.layout.group_size(),
            "bits" => self.layout.bits() as usize,
            "stored_bits" => self.layout.stored_bits() as usize,
            "scale_elements" => self.layout.scales().elements,
            "group_bytes" => self.layout.group_bytes(),
            "elements" => self.elements(),
            _ => return None,
        };
        i64::try_from(size).ok()
    }
}

/// What an expression gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Number {
    /// Of integers.
    Int(i64),
    /// Of a literal with a point or an exponent, or of `sqrt`.
    Float(f64),
    /// No number, and why.
    Bad(&'static str),
}

impl Default for Number {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl FromStr for Number {
    type Err = std::num::ParseFloatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(int) => Ok(Self::Int(int)),
            Err(_) => text.parse().map(Self::Float),
        }
    }
}

impl Number {
    fn with(
        self,
        other: Self,
        ints: fn(i64, i64) -> Option<i64>,
        floats: fn(f64, f64) -> f64,
    ) -> Self {
        match (self, other) {
            (Self::Bad(why), _) | (_, Self::Bad(why)) => Self::Bad(why),
            (Self::Int(a), Self::Int(b)) => {
                ints(a, b).map_or(Self::Bad("it overflows or divides by zero"), Self::Int)
            }
            (a, b) => Self::Float(floats(a.float(), b.float())),
        }
    }

    pub(super) fn float(&self) -> f64 {
        match self {
            Self::Int(v) => *v as f64,
            Self::Float(v) => *v,
            Self::Bad(_) => f64::NAN,
        }
    }
}

/// A binary operator of exmex; a higher priority binds tighter.
macro_rules! binary {
    ($name:literal, $prio:literal, $ints:expr, $floats:expr) => {
        Operator::make_bin(
            $name,
            BinOp {
                apply: |a: Number, b: Number| a.with(b, $ints, $floats),
                prio: $prio,
                is_commutative: false,
            },
        )
    };
}

ops_factory!(
    Operators,
    Number,
    binary!("+", 1, i64::checked_add, |a, b| a + b),
    Operator::make_bin_unary(
        "-",
        BinOp {
            apply: |a: Number, b: Number| a.with(b, i64::checked_sub, |a, b| a - b),
            prio: 1,
            is_commutative: false,
        },
        |a: Number| Number::Int(0).with(a, i64::checked_sub, |_, b| -b)
    ),
    binary!("*", 2, i64::checked_mul, |a, b| a * b),
    binary!("/", 2, i64::checked_div, |a, b| a / b),
    binary!("%", 2, i64::checked_rem, |a, b| a % b),
    binary!("min", 0, |a, b| Some(a.min(b)), f64::min),
    binary!("max", 0, |a, b| Some(a.max(b)), f64::max),
    Operator::make_unary("sqrt", |a: Number| match a {
        Number::Bad(_) => a,
        a => Number::Float(a.float().sqrt()),
    })
);

literal_matcher_from_pattern!(Literal, r"^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?");

/// An expression that was read, with its text.
#[derive(Debug, Clone)]
pub struct Expression {
    text: String,
    parsed: Box<FlatEx<Number, Operators, Literal>>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Expression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!(
                "an expression of {} bytes, more than {MAX_LENGTH}",
                text.len()
            ));
        }
        // The parser's own words are about its insides.
        let parsed = FlatEx::<Number, Operators, Literal>::parse(text).map_err(|_| {
            format!(
                "{text:?} is no expression of numbers, sizes, + - * / %, parentheses, min(a, b), \
                 max(a, b) and sqrt(a)"
            )
        })?;
        let unknown = |name: &&String| !SIZES.contains(&name.as_str());
        if let Some(name) = parsed.var_names().iter().find(unknown) {
            return Err(format!(
                "{text:?} uses {name}, expected sizes are {}",
                SIZES.join(", ")
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            parsed: Box::new(parsed),
        })
    }
}

impl Expression {
    /// The value for a launch.
    ///
    /// # Errors
    /// What is wrong with it: an overflow, a division by zero.
    pub fn number(&self, shape: &Shape) -> Result<Number, String> {
        self.over(shape, Number::Int)
    }

    /// The value with each size as `of` has it.
    fn over(&self, shape: &Shape, of: fn(i64) -> Number) -> Result<Number, String> {
        let sizes = self.parsed.var_names().iter().map(|name| {
            let size = shape.size(name);
            size.map_or(Number::Bad("a size overflows"), of)
        });
        let sizes: Vec<Number> = sizes.collect();
        match self.parsed.eval(&sizes) {
            Ok(Number::Bad(why)) => Err(format!("{:?}: {why}", self.text)),
            Ok(number) => Ok(number),
            Err(e) => Err(format!("{:?}: {}", self.text, e.msg())),
        }
    }

    /// The value as an integer.
    ///
    /// # Errors
    /// As [`Expression::number`], and when it is a fraction.
    pub fn integer(&self, shape: &Shape) -> Result<i64, String> {
        match self.number(shape)? {
            Number::Int(v) => Ok(v),
            _ => Err(format!("{:?} is no integer", self.text)),
        }
    }

    /// The value as a finite float, of sizes that are floats: `1 / group_size` is no zero.
    ///
    /// # Errors
    /// As [`Expression::number`], and when it is not finite.
    pub fn float(&self, shape: &Shape) -> Result<f64, String> {
        let value = self.over(shape, |size| Number::Float(size as f64))?.float();
        if value.is_finite() {
            Ok(value)
        } else {
            Err(format!("{:?} is {value}", self.text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape() -> Shape {
        Shape {
            rows: 5,
            cols: 384,
            layout: Layout::new(3, 128).unwrap(),
        }
    }

    fn value(text: &str) -> Result<Number, String> {
        text.parse::<Expression>()?.number(&shape())
    }

    #[test]
    fn values_follow_the_usual_rules() {
        for (text, expected) in [
            ("17", 17),
            ("rows", 5),
            ("cols", 384),
            ("groups", 15),
            ("groups_per_row", 3),
            ("group_size", 128),
            ("bits", 3),
            ("stored_bits", 4),
            ("elements", 1920),
            ("(elements + 255) / 256", 8),
            ("1 + 2 * 3 - 4", 3),
            ("7 % 4 * 2", 6),
            ("10 - 3 - 2", 5),
            ("100 / 5 / 2", 10),
            ("-rows + 6", 1),
            ("min(rows, 3) + max(rows, 9)", 12),
            ("cols*stored_bits/8", 192),
        ] {
            assert_eq!(value(text), Ok(Number::Int(expected)), "{text}");
        }
        assert_eq!(value("1 / sqrt(group_size / 2)"), Ok(Number::Float(0.125)));
        assert_eq!(value("2.5e-1 * 2"), Ok(Number::Float(0.5)));
    }

    #[test]
    fn a_float_is_of_floats() {
        let float = |text: &str| text.parse::<Expression>().unwrap().float(&shape());
        assert_eq!(float("1 / group_size"), Ok(1.0 / 128.0));
        assert_eq!(float("group_size"), Ok(128.0));
    }

    #[test]
    fn what_is_no_expression_says_why() {
        for (text, why) in [
            ("", "is no expression"),
            ("rows +", "is no expression"),
            ("(rows", "is no expression"),
            ("row", "uses row, expected sizes are rows, cols"),
            ("rows / (rows - 5)", "divides by zero"),
            ("9223372036854775807 + rows", "overflows"),
            (&"1+".repeat(200), "an expression of 400 bytes"),
        ] {
            let e = value(text).unwrap_err();
            assert!(e.contains(why), "{text}: {e}");
        }
        let e: Expression = "rows / 2.0".parse().unwrap();
        assert!(e.integer(&shape()).unwrap_err().contains("is no integer"));
        let e: Expression = "sqrt(-1)".parse().unwrap();
        assert!(e.float(&shape()).unwrap_err().contains("NaN"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in "([a-z_]{0,3}|rows|cols|min|max|sqrt|[-+*/%(),. 0-9e]){0,24}|\\PC{0,40}",
        ) {
            let _ = value(&text);
        }
    }
}
