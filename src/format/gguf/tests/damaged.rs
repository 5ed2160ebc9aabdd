//! Damaged headers: each is refused in its own words, and no change of a byte makes a panic.

use super::*;
use std::fs::File;

/// That the header is refused with these words.
fn refused(raw: Raw, expected: &str) {
    let said = words(raw.open().unwrap_err());
    assert!(said.contains(expected), "{said:?} has no {expected:?}");
}

/// One tensor of 4 elements.
fn one(raw: Raw) -> Raw {
    raw.tensor("a", &[4], 0, 0).data(32)
}

#[test]
fn kinds_and_versions_are_told_apart() {
    for version in [2, 3] {
        assert!(one(Raw::start(version, 1, 0)).open().is_ok());
    }
    refused(Raw::default(), "the file is empty");
    refused(
        Raw::default().bytes(b"GG"),
        "it ends inside the magic number",
    );
    refused(
        Raw::default().bytes(b"ggjt\x01\0\0\0"),
        "begins with \"ggjt\"",
    );
    refused(one(Raw::start(1, 1, 0)), "GGUF version 1 found");
    refused(one(Raw::start(4, 1, 0)), "GGUF version 4 found");
    refused(one(Raw::start(0, 1, 0)), "GGUF version 0 found");
    let big = one(Raw::start(3u32.swap_bytes(), 1, 0));
    refused(big, "a big-endian GGUF file of version 3");
}

#[test]
fn counts_are_checked_before_they_are_used() {
    let file = |tensors, keys| one(Raw::start(3, tensors, keys));
    refused(
        file(u64::MAX, 0),
        "the number of tensors is 18446744073709551615",
    );
    refused(file(100, 0), "the number of tensors is 100, more than");
    refused(
        file(1, 1 << 60),
        "the number of keys is 1152921504606846976",
    );
    let many = Raw::start(3, 1 << 21, 0).data(24 << 21);
    refused(many, "more than the 1048576 that are read here");
    let many = Raw::start(3, 0, 1 << 17).data(13 << 17);
    refused(many, "more than the 65536 that are read here");
}

#[test]
fn metadata_is_checked() {
    let file = || Raw::start(3, 0, 1);
    refused(file().u64(70_000).data(70_000), "key 0 is 70000 bytes long");
    refused(
        file().u64(u64::MAX).data(9),
        "key 0 is 18446744073709551615 bytes",
    );
    refused(
        file().u64(60_000).data(32),
        "it ends inside key 0, of 60000 bytes from byte 32",
    );
    refused(
        file().u64(2).bytes(b"\xff\xfe").data(32),
        "key 0 is not UTF-8",
    );
    refused(
        file().key("k", 13).data(32),
        "the type of \"k\" is 13, expected 0 to 12",
    );
    refused(
        file().key("k", 7).bytes(&[2]).data(32),
        "is 2, expected 0 or 1",
    );
    let long = file().key("k", 8).u64(u64::MAX - 3);
    refused(
        long.data(32),
        "it ends inside the value of \"k\", of 18446744073709551612 bytes",
    );
    let array = |of, len| file().key("k", 9).u32(of).u64(len);
    refused(
        array(10, 1 << 61).data(32),
        "the number of elements of \"k\" is 2305843009213693952",
    );
    refused(
        array(8, 1).u64(1 << 40).data(32),
        "it ends inside the value of \"k\"",
    );
    let deep = (0..4).fold(file().key("k", 9), |raw, _| raw.u32(9).u64(1));
    refused(deep.u32(4).u64(0).data(32), "arrays lie more than 4 deep");
    let deep = (0..3).fold(file().key("k", 9), |raw, _| raw.u32(9).u64(1));
    assert!(deep.u32(4).u64(1).u32(7).data(0).open().is_ok());
    let twice = Raw::start(3, 0, 2)
        .key("k", 0)
        .bytes(&[1])
        .key("k", 0)
        .bytes(&[1]);
    refused(twice.data(32), "key \"k\" is there twice");
}

#[test]
fn a_header_has_an_end() {
    let path = dir();
    let path = path.path().join("a.gguf");
    let raw = Raw::start(3, 0, 1).key("k", 9).u32(0).u64(200 << 20);
    std::fs::write(&path, &raw.0).unwrap();
    // Without taking a disk's blocks.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(300 << 20)
        .unwrap();
    let said = words(GgufFile::open(&path).unwrap_err());
    assert!(
        said.contains("reaches past the 134217728 bytes of header"),
        "{said}"
    );
}

#[test]
fn the_alignment_is_a_power_of_two_from_8_on() {
    let aligned = |n: u32| one(Raw::start(3, 1, 1).key("general.alignment", 4).u32(n));
    for n in [0, 3, 4, 24] {
        refused(
            aligned(n),
            &format!("general.alignment is {n}, expected a power of two"),
        );
    }
    for n in [8, 16, 32] {
        assert_eq!(aligned(n).open().unwrap().alignment(), u64::from(n));
    }
    refused(aligned(1 << 31), "it ends before its data");
    let text = Raw::start(3, 1, 1).key("general.alignment", 8).text("32");
    refused(one(text), "general.alignment is no integer");
}

#[test]
fn tensors_lie_in_the_file_side_by_side() {
    let two = |a: u64, b: u64| {
        let raw = Raw::start(3, 2, 0).tensor("a", &[8], 0, a);
        raw.tensor("b", &[16], 0, b).data(96)
    };
    for (a, b) in [(0, 32), (64, 0)] {
        let file = two(a, b).open().unwrap();
        let available = |name| file.info(name).unwrap().available;
        assert_eq!((available("a"), available("b")), (32, 64));
    }
    refused(two(0, 33), "the offset 33 of \"b\" is no multiple of 32");
    refused(
        two(0, 64),
        "tensor \"b\", 64 or more bytes from offset 64 on, reaches past the 96",
    );
    refused(two(0, u64::MAX - 31), "reaches past the 96 bytes of data");
    refused(two(32, 0), "tensors \"b\" and \"a\" overlap");
    refused(two(0, 0), "overlap");
    // Of another type only the place is known.
    let other = |b| {
        Raw::start(3, 2, 0)
            .tensor("a", &[8], 99, 0)
            .tensor("b", &[8], 99, b)
    };
    assert!(other(32).data(64).open().is_ok());
    refused(other(0).data(64), "overlap");
    refused(other(64).data(64), "reaches past");
    // Without elements it takes no place.
    let none = Raw::start(3, 2, 0)
        .tensor("a", &[8], 0, 0)
        .tensor("b", &[0, 3], 0, 0);
    assert_eq!(
        none.data(32).open().unwrap().info("b").unwrap().available,
        0
    );
    refused(
        Raw::start(3, 1, 0).tensor("a", &[1], 0, 0),
        "it ends before its data",
    );
}

#[test]
fn shapes_are_checked() {
    let shaped = |dims: &[u64], id| Raw::start(3, 1, 0).tensor("a", dims, id, 0).data(64);
    refused(shaped(&[1; 5], 0), "has 5 dimensions, expected at most 4");
    refused(shaped(&[1 << 40, 1 << 40], 0), "overflows");
    refused(shaped(&[0, 1 << 40, 1 << 40], 0), "overflows");
    refused(shaped(&[1 << 61], 28), "the size of \"a\" overflows");
    refused(
        shaped(&[48], 8),
        "rows of 48, no multiple of the 32 elements of a block of Q8_0",
    );
    let file = shaped(&[4, 2, 2], 24).open().unwrap();
    assert_eq!(file.info("a").unwrap().shape2(), [4, 4]);
    assert_eq!(
        shaped(&[], 0).open().unwrap().info("a").unwrap().shape2(),
        [1, 1]
    );
    let twice = Raw::start(3, 2, 0)
        .tensor("a", &[1], 0, 0)
        .tensor("a", &[1], 0, 32);
    refused(twice.data(64), "tensor \"a\" is there twice");
}

/// A small file with something of every kind in it.
fn sample(path: PathBuf) -> PathBuf {
    let metadata = [
        ("general.alignment".to_owned(), WrittenValue::U32(16)),
        ("n".to_owned(), WrittenValue::String("x".into())),
        ("b".to_owned(), WrittenValue::Bool(true)),
        (
            "v".to_owned(),
            WrittenValue::Strings(vec!["ab".into(), String::new()]),
        ),
    ];
    let tensors: [Given<'_>; 3] = [
        ("w", &[32, 2], 46, vec![0x3c; 40]),
        ("t", &[32, 1, 2], 44, vec![0x20; 32]),
        ("f", &[2], 0, vec![1; 8]),
    ];
    write(path, &metadata, &tensors)
}

#[test]
fn no_truncation_is_taken_for_a_whole_file() {
    let dir = dir();
    let whole = std::fs::read(sample(dir.path().join("a.gguf"))).unwrap();
    let path = dir.path().join("b.gguf");
    // The last tensor's padding may be missing.
    for len in 0..whole.len() - 8 {
        std::fs::write(&path, &whole[..len]).unwrap();
        words(GgufFile::open(&path).unwrap_err());
    }
    std::fs::write(&path, &whole).unwrap();
    GgufModel::open(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn any_byte_may_be_another() {
    let dir = dir();
    let path = sample(dir.path().join("a.gguf"));
    let whole = std::fs::read(&path).unwrap();
    let header = whole.len() - 96;
    let file = File::options().write(true).open(&path).unwrap();
    let put = |at: usize, byte| {
        use std::os::unix::fs::FileExt;
        file.write_all_at(&[byte], at as u64).unwrap();
    };
    for (at, was) in whole.iter().enumerate().take(header) {
        for byte in 0..=255 {
            put(at, byte);
            if let Err(e) = look_at_all(&path) {
                words(e);
            }
        }
        put(at, *was);
    }
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_opened_and_changes_are_noticed() {
    let dir = dir();
    let said = words(GgufFile::open(dir.path()).unwrap_err());
    assert!(said.contains("not a regular file"), "{said}");
    let path = sample(dir.path().join("a.gguf"));
    let file = GgufFile::open(&path).unwrap();
    file.unchanged().unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1)
        .unwrap();
    assert!(words(file.unchanged().unwrap_err()).contains("was changed"));
    let short = file.read_at("w", 0, &mut [0]).unwrap_err();
    assert!(words(short).contains("became shorter"));
}
