//! What is written is read again.

use super::*;
use proptest::prelude::*;

/// A value, and what a reader keeps of it.
fn value() -> impl Strategy<Value = (WrittenValue, MetadataValue)> {
    prop_oneof![
        ".{0,9}".prop_map(|s| (WrittenValue::String(s.clone()), MetadataValue::String(s))),
        any::<u32>().prop_map(|n| (WrittenValue::U32(n), MetadataValue::Unsigned(n.into()))),
        any::<u64>().prop_map(|n| (WrittenValue::U64(n), MetadataValue::Unsigned(n))),
        (-1e9f32..1e9).prop_map(|n| (WrittenValue::F32(n), MetadataValue::Float(n.into()))),
        any::<bool>().prop_map(|b| (WrittenValue::Bool(b), MetadataValue::Bool(b))),
        prop::collection::vec(".{0,5}", 0..4).prop_map(|texts| {
            let (of, len) = (ValueType::String, texts.len() as u64);
            (
                WrittenValue::Strings(texts),
                MetadataValue::Array { of, len },
            )
        }),
    ]
}

/// Dimensions, a type, and bytes of it.
fn tensor() -> impl Strategy<Value = (Vec<u64>, u32, Vec<u8>)> {
    let shape = prop::collection::vec(0u64..4, 0..3);
    let types = prop::sample::select(vec![(0, 1, 4), (8, 32, 34), (24, 1, 1), (14, 256, 210)]);
    (1u64..3, shape, types, any::<u8>()).prop_map(|(blocks, shape, (id, block, bytes), fill)| {
        let rows: u64 = shape.iter().product();
        let dims = [&[blocks * block], shape.as_slice()].concat();
        (dims, id, vec![fill; (blocks * rows * bytes) as usize])
    })
}

proptest! {
    #[test]
    fn written_and_read(
        metadata in prop::collection::btree_map("[a-z.]{1,12}", value(), 0..6),
        tensors in prop::collection::btree_map(".{0,12}", tensor(), 0..6),
        alignment in prop::option::of(prop::sample::select(vec![8u32, 32, 64, 4096])),
    ) {
        let dir = dir();
        let mut entries: Vec<_> =
            metadata.iter().map(|(key, (entry, _))| (key.clone(), entry.clone())).collect();
        entries.extend(alignment.map(|n| ("general.alignment".to_owned(), WrittenValue::U32(n))));
        let given: Vec<Given<'_>> = tensors
            .iter()
            .map(|(name, (dims, id, bytes))| (name.as_str(), dims.as_slice(), *id, bytes.clone()))
            .collect();
        let file = GgufFile::open(&write(dir.path().join("a.gguf"), &entries, &given)).unwrap();
        prop_assert_eq!(file.alignment(), u64::from(alignment.unwrap_or(32)));
        prop_assert_eq!(file.metadata().len(), entries.len());
        for (key, (_, kept)) in &metadata {
            prop_assert_eq!(file.value(key), Some(kept));
        }
        prop_assert!(file.names().eq(tensors.keys()));
        for (name, (dims, id, bytes)) in &tensors {
            let info = file.info(name).unwrap();
            prop_assert_eq!((&info.dims, info.type_id), (dims, *id));
            let mut read = vec![0; bytes.len()];
            file.read_at(name, 0, &mut read).unwrap();
            prop_assert_eq!(&read, bytes);
            let half = bytes.len() / 2;
            file.read_at(name, half as u64, &mut read[half..]).unwrap();
            prop_assert_eq!(&read, bytes);
        }
    }

    #[test]
    fn anything_may_come_after_a_start(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        (tensors, keys) in (0u64..4, 0u64..4),
    ) {
        if let Err(e) = Raw::start(3, tensors, keys).bytes(&bytes).open() {
            words(e);
        }
    }
}

#[test]
fn every_type_of_value_is_read() {
    let raw = Raw::start(3, 0, 12)
        .key("u8", 0)
        .bytes(&[200])
        .key("i8", 1)
        .bytes(&[0xff])
        .key("u16", 2)
        .bytes(&[0, 2])
        .key("i16", 3)
        .bytes(&[0xfe, 0xff])
        .key("u32", 4)
        .u32(7)
        .key("i32", 5)
        .u32(u32::MAX)
        .key("f32", 6)
        .bytes(&0.5f32.to_le_bytes())
        .key("string", 8)
        .bytes(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff])
        .key("u64", 10)
        .u64(u64::MAX)
        .key("i64", 11)
        .u64(u64::MAX)
        .key("f64", 12)
        .bytes(&0.1f64.to_le_bytes())
        .key("array", 9)
        .u32(2)
        .u64(3)
        .bytes(&[0; 6]);
    let file = raw.open().unwrap();
    for (key, value) in [
        ("u8", MetadataValue::Unsigned(200)),
        ("i8", MetadataValue::Signed(-1)),
        ("u16", MetadataValue::Unsigned(512)),
        ("i16", MetadataValue::Signed(-2)),
        ("u32", MetadataValue::Unsigned(7)),
        ("i32", MetadataValue::Signed(-1)),
        ("f32", MetadataValue::Float(0.5)),
        ("string", MetadataValue::String("\u{fffd}".into())),
        ("u64", MetadataValue::Unsigned(u64::MAX)),
        ("i64", MetadataValue::Signed(-1)),
        ("f64", MetadataValue::Float(0.1)),
        (
            "array",
            MetadataValue::Array {
                of: ValueType::U16,
                len: 3,
            },
        ),
    ] {
        assert_eq!(file.value(key), Some(&value), "{key}");
    }
    assert_eq!(MetadataValue::Signed(3).as_u64(), Some(3));
    assert_eq!(MetadataValue::Signed(-3).as_u64(), None);
}

#[test]
fn types_of_values_stand_at_their_ids() {
    for (id, of) in ValueType::ALL.into_iter().enumerate() {
        assert_eq!(of as usize, id);
    }
}

#[test]
fn a_large_vocabulary_is_passed_over() {
    let mut raw = Raw::start(3, 1, 1).key("tokens", 9).u32(8).u64(200_000);
    for i in 0..200_000 {
        raw = raw.text(&i.to_string());
    }
    let file = raw.tensor("a", &[1], 24, 0).data(1).open().unwrap();
    let expected = MetadataValue::Array {
        of: ValueType::String,
        len: 200_000,
    };
    assert_eq!(file.value("tokens"), Some(&expected));
    assert!(file.info("a").is_some());
}

#[test]
fn what_cannot_be_read_is_not_written() {
    let dir = dir();
    let path = dir.path().join("a.gguf");
    let refused = |metadata: &[(String, WrittenValue)],
                   dims: &[u64],
                   bytes,
                   names: &[&str],
                   expected: &str| {
        let planned: Vec<PlannedGgufTensor> = names
            .iter()
            .map(|name| PlannedGgufTensor {
                name: (*name).into(),
                dims: dims.to_vec(),
                type_id: 0,
                bytes,
            })
            .collect();
        let said = words(GgufWriter::create(&path, metadata, &planned).unwrap_err());
        assert!(said.contains(expected), "{said}");
    };
    refused(&[], &[1], 4, &["a", "a"], "\"a\" is there twice");
    refused(
        &[],
        &[1; 5],
        4,
        &["a"],
        "the shape [1, 1, 1, 1, 1] of \"a\" is not possible",
    );
    refused(&[], &[1 << 63], 4, &["a"], "is not possible");
    refused(
        &[],
        &[1],
        u64::MAX,
        &["a"],
        "the 18446744073709551615 bytes of \"a\" overflow",
    );
    refused(
        &[],
        &[1],
        4,
        &[&"n".repeat(70_000)],
        "a name of 70000 bytes",
    );
    let alignment = [("general.alignment".to_owned(), WrittenValue::U32(12))];
    refused(&alignment, &[1], 4, &["a"], "general.alignment is U32(12)");
    // Nor is anything left.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    drop(GgufWriter::create(&path, &[], &[]).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
