//! The types of ggml itself, from its `ggml.h` and `ggml-common.h`.
//!
//! Two of them look like TurboQuant's and are not: `TQ1_0` and `TQ2_0` are ternary. Ids from 41 on are left
//! out: ggml gave them out (`Q1_0`, `Q2_0`) after other programs had taken them for types of their own.

/// A type of ggml: how many bytes a block of so many elements takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StockType {
    /// Its number in files.
    pub(crate) id: u32,
    /// Its name in ggml, without `GGML_TYPE_`.
    pub(crate) name: &'static str,
    /// Elements of a block.
    pub(crate) block: u64,
    /// Bytes of a block.
    pub(crate) bytes: u64,
}

/// The first id that other programs gave to types of their own. Those below that are not in the table
/// were ggml's once.
pub(super) const FIRST_FREE: u32 = 36;

const fn stock(id: u32, name: &'static str, block: u64, bytes: u64) -> StockType {
    StockType {
        id,
        name,
        block,
        bytes,
    }
}

/// All of them, by id.
static STOCK: [StockType; 33] = [
    stock(0, "F32", 1, 4),
    stock(1, "F16", 1, 2),
    stock(2, "Q4_0", 32, 18),
    stock(3, "Q4_1", 32, 20),
    stock(6, "Q5_0", 32, 22),
    stock(7, "Q5_1", 32, 24),
    stock(8, "Q8_0", 32, 34),
    stock(9, "Q8_1", 32, 36),
    stock(10, "Q2_K", 256, 84),
    stock(11, "Q3_K", 256, 110),
    stock(12, "Q4_K", 256, 144),
    stock(13, "Q5_K", 256, 176),
    stock(14, "Q6_K", 256, 210),
    stock(15, "Q8_K", 256, 292),
    stock(16, "IQ2_XXS", 256, 66),
    stock(17, "IQ2_XS", 256, 74),
    stock(18, "IQ3_XXS", 256, 98),
    stock(19, "IQ1_S", 256, 50),
    stock(20, "IQ4_NL", 32, 18),
    stock(21, "IQ3_S", 256, 110),
    stock(22, "IQ2_S", 256, 82),
    stock(23, "IQ4_XS", 256, 136),
    stock(24, "I8", 1, 1),
    stock(25, "I16", 1, 2),
    stock(26, "I32", 1, 4),
    stock(27, "I64", 1, 8),
    stock(28, "F64", 1, 8),
    stock(29, "IQ1_M", 256, 56),
    stock(30, "BF16", 1, 2),
    stock(34, "TQ1_0", 256, 54),
    stock(35, "TQ2_0", 256, 66),
    stock(39, "MXFP4", 32, 17),
    stock(40, "NVFP4", 64, 36),
];

impl StockType {
    /// The type of that id.
    pub(crate) fn of(id: u32) -> Option<&'static Self> {
        STOCK.iter().find(|t| t.id == id)
    }
}
