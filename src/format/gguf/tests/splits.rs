//! Models of several files.

use super::*;

fn number(key: &str, n: u32) -> (String, WrittenValue) {
    (format!("split.{key}"), WrittenValue::U32(n))
}

/// Writes part `i` from 1 on, of `count`, with one tensor; the file says that it is part `says`.
fn part(dir: &Path, i: u32, count: u32, says: u32, tensor: &str) -> PathBuf {
    let path = dir.join(format!("m-{i:05}-of-{count:05}.gguf"));
    let metadata = [
        number("no", says - 1),
        number("count", count),
        number("tensors.count", count),
    ];
    write(path, &metadata, &[(tensor, &[4], 24, vec![i as u8; 4])])
}

fn said(path: &Path) -> String {
    words(GgufModel::open(path).unwrap_err())
}

#[test]
fn any_part_opens_the_model() {
    let dir = dir();
    let paths = [1, 2, 3].map(|i| part(dir.path(), i, 3, i, &format!("t{}", 4 - i)));
    for path in &paths {
        let model = GgufModel::open(path).unwrap();
        assert_eq!(model.names().collect::<Vec<_>>(), ["t1", "t2", "t3"]);
        let (file, info) = model.find("t1").unwrap();
        assert_eq!((file.path(), info.elements()), (paths[2].as_path(), 4));
        let mut bytes = [0; 2];
        file.read_at("t1", 2, &mut bytes).unwrap();
        assert_eq!(bytes, [3, 3]);
        model.unchanged().unwrap();
        assert!(words(model.find("t9").unwrap_err()).contains("no tensor \"t9\""));
    }
    std::fs::remove_file(&paths[0]).unwrap();
    std::fs::remove_file(&paths[2]).unwrap();
    let missing = "2 of 3 parts are missing: m-00001-of-00003.gguf, m-00003-of-00003.gguf";
    assert!(said(&paths[1]).contains(missing));
}

#[test]
fn missing_parts_are_named_but_not_all_of_many() {
    let dir = dir();
    let path = part(dir.path(), 2, 99_999, 2, "a");
    assert!(said(&path).contains("99998 of 99999 parts are missing: m-00001-of-99999.gguf"));
    assert!(said(&path).contains("and 99995 more"));
    for i in [0, 3] {
        let path = dir.path().join(format!("m-{i:05}-of-00002.gguf"));
        std::fs::copy(part(dir.path(), 1, 1, 1, "a"), &path).unwrap();
        assert!(said(&path).contains(&format!("the name says part {i} of 2")));
    }
}

#[test]
fn parts_of_other_models_are_refused() {
    let dir = dir();
    let first = part(dir.path(), 1, 2, 1, "a");
    part(dir.path(), 2, 2, 1, "b");
    assert!(said(&first).contains("says that it is part 1, its name says 2"));
    part(dir.path(), 2, 2, 2, "a");
    assert!(said(&first).contains("tensor \"a\" is in "));
    let second = part(dir.path(), 2, 2, 2, "b");
    GgufModel::open(&second).unwrap();
    let put = |metadata: &[(String, WrittenValue)]| {
        write(second.clone(), metadata, &[("b", &[1], 24, vec![0])]);
    };
    put(&[number("count", 3)]);
    assert!(said(&first).contains("says that the model has 3 parts, its name says 2"));
    put(&[number("tensors.count", 5)]);
    assert!(said(&first).contains("the parts have 2 tensors, 5 expected"));
    put(&[("split.count".into(), WrittenValue::Bool(true))]);
    assert!(said(&first).contains("split.count is no number"));
    // A file need not say anything.
    put(&[]);
    GgufModel::open(&first).unwrap();
    let other = dir.path().join("other.gguf");
    std::fs::copy(&first, &other).unwrap();
    assert!(said(&other).contains("a part of a model of 2 files, whose name does not say so"));
}
