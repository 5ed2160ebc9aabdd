//! Which type a tensor is, by its bytes, its id and the dialect.

use super::BlockType::{Tq3_1s, Tq3_4s, Tq4_1s};
use super::*;

/// What `decide` makes of one tensor of so many blocks of so many bytes; another comes after it.
fn decided(id: u32, blocks: u64, bytes: u64, dialect: Option<Dialect>) -> Result<TensorType> {
    let dir = dir();
    let data = vec![0; (blocks * bytes) as usize];
    let tensors: [Given<'_>; 2] = [("w", &[32, blocks], id, data), ("z", &[1], 24, vec![0])];
    let path = write(dir.path().join("a.gguf"), &[], &tensors);
    decide(&GgufFile::open(&path).unwrap(), "w", dialect)
}

/// The same, of a tensor whose bytes tell 16 from 20 a block.
fn large(id: u32, bytes: u64, dialect: Option<Dialect>) -> Result<TensorType> {
    decided(id, 64, bytes, dialect)
}

#[test]
fn twenty_bytes_a_block_are_tq4_1s_whatever_the_id() {
    for id in [36, 42, 44, 45, 46, 47, 48, 200] {
        assert_eq!(
            large(id, 20, None).unwrap(),
            TensorType::Turbo(Tq4_1s),
            "{id}"
        );
    }
    // TheTom's has no type 36: the bytes say enough.
    let asked = large(36, 20, Some(Dialect::TheTom));
    assert_eq!(asked.unwrap(), TensorType::Turbo(Tq4_1s));
}

#[test]
fn sixteen_bytes_a_block_are_what_every_dialect_says() {
    for (id, kind) in [(44, Tq3_1s), (45, Tq3_1s), (46, Tq3_4s), (48, Tq3_4s)] {
        assert_eq!(
            large(id, 16, None).unwrap(),
            TensorType::Turbo(kind),
            "{id}"
        );
    }
    for id in [36, 47, 200] {
        let found = large(id, 16, None);
        if id == 36 {
            // Too few for the only type that it is known as.
            let said = words(found.unwrap_err());
            assert!(
                said.contains("1024 bytes found for 2048 elements of type 36"),
                "{said}"
            );
        } else {
            assert_eq!(found.unwrap(), TensorType::Unknown(id));
        }
    }
}

#[test]
fn stock_types_are_never_turboquants() {
    let stock = large(3, 20, Some(Dialect::TheTom)).unwrap();
    assert!(matches!(stock, TensorType::Stock(t) if t.name == "Q4_1"));
    // Ids that were ggml's once, and the ternary types.
    assert_eq!(large(4, 20, None).unwrap(), TensorType::Unknown(4));
    let ternary = [34, 35].map(|id| StockType::of(id).unwrap().name);
    assert_eq!(ternary, ["TQ1_0", "TQ2_0"]);
}

#[test]
fn other_sizes_are_other_types() {
    for (id, bytes) in [(46, 34), (48, 34), (48, 17), (99, 8)] {
        let found = large(id, bytes, None).unwrap();
        assert_eq!(found, TensorType::Unknown(id));
    }
    // But too few for a type that is known are a damaged file.
    let said = words(large(46, 8, None).unwrap_err());
    assert!(
        said.contains("TQ4_1S in thetom or TQ3_4S in turbotan"),
        "{said}"
    );
}

#[test]
fn a_dialect_that_the_bytes_contradict_is_refused() {
    let said = words(large(46, 20, Some(Dialect::TurboTan)).unwrap_err());
    assert!(
        said.contains(
            "type 46 is TQ3_4S in dialect turbotan and takes 1024 bytes here, but 1280 are there"
        ),
        "{said}"
    );
    assert!(said.contains("those of dialect thetom"), "{said}");
    let said = words(large(45, 8, Some(Dialect::TheTom)).unwrap_err());
    assert!(said.contains("the file is damaged"), "{said}");
    let said = words(large(48, 16, Some(Dialect::TheTom)).unwrap_err());
    assert!(
        said.contains("not one of dialect thetom; it is TQ3_4S in fork-36-48"),
        "{said}"
    );
    let found = large(46, 16, Some(Dialect::TurboTan)).unwrap();
    assert_eq!(found, TensorType::Turbo(Tq3_4s));
}

#[test]
fn a_question_says_what_each_reading_gives() {
    let dir = dir();
    // One block: 16 bytes and 20 are both padded to 32.
    let block = [0x40, 0x5f, 0x00, 0xff];
    let block = [block.as_slice(), &[0; 16]].concat();
    let tensors: [Given<'_>; 2] = [("w", &[32], 46, block), ("z", &[1], 24, vec![0])];
    let path = write(dir.path().join("a.gguf"), &[], &tensors);
    let file = GgufFile::open(&path).unwrap();
    let said = words(decide(&file, "w", None).unwrap_err());
    let expected = [
        "type 46 is TQ4_1S in thetom or TQ3_4S in turbotan, and its 32 bytes do not tell which",
        "as TQ4_1S it has scales from 4.640e2 to 4.640e2, and 1 of 2 infinite or NaN",
        "as TQ3_4S it has scales from 0.000e0 to 4.922e-1",
        "--gguf-dialect thetom or turbotan",
        "where: w in ",
    ];
    for part in expected {
        assert!(said.contains(part), "{said:?} has no {part:?}");
    }
    for (dialect, kind) in [(Dialect::TheTom, Tq4_1s), (Dialect::TurboTan, Tq3_4s)] {
        let found = decide(&file, "w", Some(dialect)).unwrap();
        assert_eq!(found, TensorType::Turbo(kind));
    }
}

#[test]
fn the_last_tensor_may_be_without_padding() {
    let raw = |len| Raw::start(3, 1, 0).tensor("w", &[32], 46, 0).data(len);
    for (len, kind) in [(20, Tq4_1s), (16, Tq3_4s)] {
        let file = raw(len).open().unwrap();
        assert_eq!(decide(&file, "w", None).unwrap(), TensorType::Turbo(kind));
    }
    let file = raw(18).open().unwrap();
    assert!(words(decide(&file, "w", None).unwrap_err()).contains("18 bytes found"));
}

#[test]
fn experts_stand_below_each_other_and_rows_are_whole_blocks() {
    let raw = Raw::start(3, 1, 0)
        .tensor("w", &[64, 5, 3], 46, 0)
        .data(600);
    let file = raw.open().unwrap();
    assert_eq!(file.info("w").unwrap().shape2(), [15, 64]);
    assert_eq!(decide(&file, "w", None).unwrap(), TensorType::Turbo(Tq4_1s));
    let ragged = |id| Raw::start(3, 1, 0).tensor("w", &[48, 2], id, 0).data(64);
    let said = words(decide(&ragged(46).open().unwrap(), "w", None).unwrap_err());
    assert!(
        said.contains("rows of 48 elements found in a tensor of type 46 (TQ4_1S"),
        "{said}"
    );
    let other = decide(&ragged(99).open().unwrap(), "w", None).unwrap();
    assert_eq!(other, TensorType::Unknown(99));
}

#[test]
fn dialects_are_known_by_their_names() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.name().parse::<Dialect>().unwrap(), dialect);
    }
    let said = "llama".parse::<Dialect>().unwrap_err().to_string();
    assert!(
        said.contains("name one of thetom, turbotan, fork-44-45, fork-36-48"),
        "{said}"
    );
}
