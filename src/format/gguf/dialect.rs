//! Which of TurboQuant's types a tensor is. Programs gave them ids of their own, and those collide: 46 is
//! one type in one program's files and another in another's. The bytes of a tensor tell 20 a block from 16;
//! the rest is for the id, and for the user where the id has two meanings.

use super::types::FIRST_FREE;
use super::{BlockType, GgufFile, GgufTensorInfo, StockType, scales};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Elements of a block.
pub(super) const BLOCK_ELEMENTS: u64 = super::block::BLOCK_WEIGHTS as u64;

impl BlockType {
    /// Bytes of so many elements.
    fn bytes_of(self, elements: u64) -> u64 {
        // Elements are at most half of what a u64 holds.
        elements / BLOCK_ELEMENTS * self.block_bytes()
    }

    /// Whether a tensor of this type takes just the bytes that are there for it. Only the last one of a
    /// file may be without padding.
    fn fits(self, info: &GgufTensorInfo, alignment: u64) -> bool {
        let bytes = self.bytes_of(info.elements());
        let padded = bytes.checked_next_multiple_of(alignment);
        info.available == bytes || Some(info.available) == padded
    }
}

/// A program, or several, whose files have the same ids for TurboQuant's types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// TheTom's llama-cpp-turboquant. Its 42 to 44 are types of caches, which are not in files.
    TheTom,
    /// turbo-tan's llama.cpp-tq3.
    TurboTan,
    /// Forks with TQ3_1S at 44 and TQ4_1S at 45.
    Fork44And45,
    /// Forks with TQ4_1S at 36 and TQ3_4S at 48.
    Fork36And48,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::TheTom,
        Self::TurboTan,
        Self::Fork44And45,
        Self::Fork36And48,
    ];

    /// The name under which a user asks for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TheTom => "thetom",
            Self::TurboTan => "turbotan",
            Self::Fork44And45 => "fork-44-45",
            Self::Fork36And48 => "fork-36-48",
        }
    }

    /// The TurboQuant type that an id means.
    pub(crate) fn type_of(self, id: u32) -> Option<BlockType> {
        match (self, id) {
            (Self::TheTom, 45) => Some(BlockType::Tq3_1s),
            (Self::TheTom, 46) => Some(BlockType::Tq4_1s),
            (Self::TurboTan, 44) => Some(BlockType::Tq3_1s),
            (Self::TurboTan, 46) => Some(BlockType::Tq3_4s),
            (Self::Fork44And45, 44) => Some(BlockType::Tq3_1s),
            (Self::Fork44And45, 45) => Some(BlockType::Tq4_1s),
            (Self::Fork36And48, 36) => Some(BlockType::Tq4_1s),
            (Self::Fork36And48, 48) => Some(BlockType::Tq3_4s),
            _ => None,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|d| d.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            let what = format!("no dialect {name:?}");
            Error::input(what, "", format!("name one of {names}"))
        })
    }
}

/// What a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TensorType {
    /// One of ggml's own types.
    Stock(&'static StockType),
    /// One of TurboQuant's.
    Turbo(BlockType),
    /// Neither: the id.
    Unknown(u32),
}

/// What a type id means, and who says so.
type Meaning = (Dialect, BlockType);

/// Tells the type of a tensor from its id, its bytes and the dialect, where the user named one.
///
/// # Errors
/// When it is not there, when id and bytes leave two types and no dialect was named, and when the bytes
/// contradict the dialect, or every meaning that the id has.
pub(crate) fn decide(file: &GgufFile, name: &str, dialect: Option<Dialect>) -> Result<TensorType> {
    let info = file.known(name)?;
    let id = info.type_id;
    if let Some(stock) = StockType::of(id) {
        return Ok(TensorType::Stock(stock));
    }
    if id < FIRST_FREE || info.elements() == 0 {
        return Ok(TensorType::Unknown(id));
    }
    let meanings: Vec<Meaning> = Dialect::ALL
        .into_iter()
        .filter_map(|d| Some((d, d.type_of(id)?)))
        .collect();
    let tensor = GgufTensor { file, name, info };
    if !info.shape2()[1].is_multiple_of(BLOCK_ELEMENTS as usize) {
        return tensor.ragged(&meanings, dialect);
    }
    match dialect.and_then(|d| Some((d, d.type_of(id)?))) {
        Some((dialect, kind)) => tensor.checked(dialect, kind),
        None => tensor.by_bytes(&meanings, dialect),
    }
}

/// A tensor whose type is asked for.
struct GgufTensor<'a> {
    file: &'a GgufFile,
    name: &'a str,
    info: &'a GgufTensorInfo,
}

impl GgufTensor<'_> {
    fn fits(&self, kind: BlockType) -> bool {
        kind.fits(self.info, self.file.alignment())
    }

    fn refused(&self, what: String, help: impl Into<String>) -> Error {
        let place = format!("{} in {}", self.name, self.file.path().display());
        Error::input(what, place, help)
    }

    /// One whose rows are not whole blocks: no TurboQuant type, unless its id says that it is.
    fn ragged(&self, meanings: &[Meaning], dialect: Option<Dialect>) -> Result<TensorType> {
        let means = |(d, _): &&Meaning| dialect.is_none_or(|asked| asked == *d);
        let Some((dialect, kind)) = meanings.iter().find(means) else {
            return Ok(TensorType::Unknown(self.info.type_id));
        };
        Err(self.refused(
            format!(
                "rows of {} elements found in a tensor of type {} ({kind} in {dialect}), expected a \
                 multiple of {BLOCK_ELEMENTS}",
                self.info.shape2()[1], self.info.type_id
            ),
            "the file is damaged, or of a program whose types are not known here",
        ))
    }

    /// The type that the user's dialect says, which the bytes must bear out.
    fn checked(&self, dialect: Dialect, kind: BlockType) -> Result<TensorType> {
        if self.fits(kind) {
            return Ok(TensorType::Turbo(kind));
        }
        let bytes = kind.bytes_of(self.info.elements());
        let others: Vec<&str> = Dialect::ALL
            .into_iter()
            .filter(|d| d.type_of(self.info.type_id).is_some_and(|t| self.fits(t)))
            .map(Dialect::name)
            .collect();
        let help = if others.is_empty() {
            "the file is damaged, or of a program whose types are not known here".into()
        } else {
            format!("the bytes are those of dialect {}", others.join(" or "))
        };
        Err(self.refused(
            format!(
                "type {} is {kind} in dialect {dialect} and takes {bytes} bytes here, but {} are there",
                self.info.type_id, self.info.available
            ),
            help,
        ))
    }

    /// The type that the bytes leave of those that the id means in any dialect: `asked` has none for it.
    fn by_bytes(&self, meanings: &[Meaning], asked: Option<Dialect>) -> Result<TensorType> {
        let possible: Vec<BlockType> = BlockType::ALL
            .into_iter()
            .filter(|t| self.fits(*t))
            .collect();
        if possible == [BlockType::Tq4_1s] {
            // No other type that is known takes 20 bytes a block, whatever its id.
            return Ok(TensorType::Turbo(BlockType::Tq4_1s));
        }
        let fitting: Vec<Meaning> = meanings
            .iter()
            .copied()
            .filter(|(_, t)| self.fits(*t))
            .collect();
        let Some((_, kind)) = fitting.first().copied() else {
            return self.unknown(meanings);
        };
        if let Some(asked) = asked {
            return Err(self.refused(
                format!(
                    "type {} is not one of dialect {asked}; it is {}",
                    self.info.type_id,
                    list(&fitting)
                ),
                "name the dialect of the program that wrote the file, or none",
            ));
        }
        if fitting.iter().all(|(_, t)| *t == kind) {
            return Ok(TensorType::Turbo(kind));
        }
        Err(self.undecided(&fitting))
    }

    /// One whose bytes are of no type that its id means: another's, unless there are too few for any.
    fn unknown(&self, meanings: &[Meaning]) -> Result<TensorType> {
        let elements = self.info.elements();
        let most = meanings.iter().map(|(_, t)| t.bytes_of(elements)).max();
        match most {
            Some(most) if self.info.available < most => Err(self.refused(
                format!(
                    "{} bytes found for {elements} elements of type {}, which is {}",
                    self.info.available,
                    self.info.type_id,
                    list(meanings)
                ),
                "copy the file again; it is truncated or damaged, or of a program whose types are not known here",
            )),
            _ => Ok(TensorType::Unknown(self.info.type_id)),
        }
    }

    /// The question to the user: what each reading gives.
    fn undecided(&self, fitting: &[Meaning]) -> Error {
        let readings: Vec<String> = BlockType::ALL
            .into_iter()
            .filter(|kind| fitting.iter().any(|(_, t)| t == kind))
            .map(|kind| match scales::sample(self.file, self.name, kind) {
                Ok(scales) => format!("as {kind} {scales}"),
                Err(e) => format!("as {kind} it cannot be read: {}", e.problem().what),
            })
            .collect();
        let names: Vec<&str> = fitting.iter().map(|(d, _)| d.name()).collect();
        self.refused(
            format!(
                "type {} is {}, and its {} bytes do not tell which; {}",
                self.info.type_id,
                list(fitting),
                self.info.available,
                readings.join("; ")
            ),
            format!(
                "say which program wrote the file with --gguf-dialect {}; a wrong reading has absurd scales",
                names.join(" or ")
            ),
        )
    }
}

/// `TQ4_1S in thetom or TQ3_4S in turbotan`
fn list(meanings: &[Meaning]) -> String {
    let one = |(dialect, kind): &Meaning| format!("{kind} in {dialect}");
    meanings.iter().map(one).collect::<Vec<_>>().join(" or ")
}
