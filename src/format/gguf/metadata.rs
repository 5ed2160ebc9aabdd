//! Metadata: keys with values. Numbers and strings are kept; of an array its type and length, since
//! those are vocabularies, which nothing here needs.

use super::cursor::Cursor;
use crate::error::Result;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

/// Most keys that are read.
const MAX_KEYS: u64 = 1 << 16;
/// Bytes of the shortest entry: an empty key, a type, a byte.
const LEAST_ENTRY: u64 = 8 + 4 + 1;
/// How deep arrays may lie in arrays.
const MAX_DEPTH: usize = 4;

/// Type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    /// All of them, each at its id.
    pub(crate) const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// Bytes of every value of this type; none where they differ.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// Bytes of the shortest value: a string's length; a type and a number for an array.
    fn least(self) -> u64 {
        match self {
            Self::Array => 4 + 8,
            _ => self.size().unwrap_or(8),
        }
    }

    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self> {
        let id = cursor.u32(&format_args!("the type of {key:?}"))?;
        let known = usize::try_from(id).ok().and_then(|i| Self::ALL.get(i));
        known.copied().ok_or_else(|| {
            cursor.damaged(format_args!(
                "the type of {key:?} is {id}, expected 0 to {}",
                Self::ALL.len() - 1
            ))
        })
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MetadataValue {
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A number of either precision.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text. What was not UTF-8 in it is replaced: it is for reading only.
    String(String),
    /// An array, which was passed over.
    Array {
        /// Type of its elements.
        of: ValueType,
        /// How many there are.
        len: u64,
    },
}

impl MetadataValue {
    /// The integer, where it is one and not negative.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(n) => Some(n),
            Self::Signed(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }

    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self> {
        let of = ValueType::read(cursor, key)?;
        let what = format_args!("the value of {key:?}");
        let what = &what;
        Ok(match of {
            ValueType::U8 => Self::Unsigned(u8::from_le_bytes(cursor.take(what)?).into()),
            ValueType::U16 => Self::Unsigned(u16::from_le_bytes(cursor.take(what)?).into()),
            ValueType::U32 => Self::Unsigned(cursor.u32(what)?.into()),
            ValueType::U64 => Self::Unsigned(cursor.u64(what)?),
            ValueType::I8 => Self::Signed(i8::from_le_bytes(cursor.take(what)?).into()),
            ValueType::I16 => Self::Signed(i16::from_le_bytes(cursor.take(what)?).into()),
            ValueType::I32 => Self::Signed(i32::from_le_bytes(cursor.take(what)?).into()),
            ValueType::I64 => Self::Signed(i64::from_le_bytes(cursor.take(what)?)),
            ValueType::F32 => Self::Float(f32::from_le_bytes(cursor.take(what)?).into()),
            ValueType::F64 => Self::Float(f64::from_le_bytes(cursor.take(what)?)),
            ValueType::Bool => match cursor.take(what)? {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                [other] => {
                    return Err(cursor.damaged(format_args!("{what} is {other}, expected 0 or 1")));
                }
            },
            ValueType::String => {
                let bytes = cursor.string(what)?;
                Self::String(String::from_utf8_lossy(&bytes).into_owned())
            }
            ValueType::Array => {
                let (of, len) = pass_array(cursor, key, 1)?;
                Self::Array { of, len }
            }
        })
    }
}

/// Passes over an array; returns the type and number of its elements.
fn pass_array(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<(ValueType, u64)> {
    if depth > MAX_DEPTH {
        return Err(cursor.damaged(format_args!(
            "arrays lie more than {MAX_DEPTH} deep in the value of {key:?}"
        )));
    }
    let of = ValueType::read(cursor, key)?;
    let what = format_args!("the number of elements of {key:?}");
    let len = cursor.count(of.least(), &what)?;
    let what = format_args!("the value of {key:?}");
    if let Some(size) = of.size() {
        // The number was checked against the file: the product fits.
        cursor.skip(len * size, &what)?;
        return Ok((of, len));
    }
    for _ in 0..len {
        if of == ValueType::Array {
            pass_array(cursor, key, depth + 1)?;
        } else {
            let bytes = cursor.u64(&what)?;
            cursor.skip(bytes, &what)?;
        }
    }
    Ok((of, len))
}

/// Checks how many keys there are said to be.
pub(super) fn check_count(cursor: &Cursor<'_>, count: u64) -> Result<()> {
    cursor.check_count(count, LEAST_ENTRY, &"the number of keys")?;
    if count > MAX_KEYS {
        return Err(cursor.damaged(format_args!(
            "the number of keys is {count}, more than the {MAX_KEYS} that are read here"
        )));
    }
    Ok(())
}

/// Keys with where in the file their values stand, each after the id of its type; in the file's order.
pub(super) type Places = Vec<(String, Range<u64>)>;

/// Reads `count` keys with their values.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    count: u64,
) -> Result<(BTreeMap<String, MetadataValue>, Places)> {
    let (mut metadata, mut places) = (BTreeMap::new(), Places::new());
    for i in 0..count {
        let key = cursor.name(&format_args!("key {i}"))?;
        let start = cursor.position();
        let value = MetadataValue::read(cursor, &key)?;
        places.push((key.clone(), start..cursor.position()));
        match metadata.entry(key) {
            Entry::Vacant(place) => drop(place.insert(value)),
            Entry::Occupied(there) => {
                return Err(cursor.damaged(format_args!("key {:?} is there twice", there.key())));
            }
        }
    }
    Ok((metadata, places))
}
