//! host/UNSAFE.md has a row for every file that allows unsafe code, with how often and why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::rust_files;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// How often a word stands in the code of a line.
fn words(code: &str, word: &str) -> usize {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.split(|c| !part(c)).filter(|w| *w == word).count()
}

/// Places of `unsafe` in a file that has any, or allows them: none where it does neither.
fn places(text: &str) -> Option<usize> {
    // A line's comment is not code; strings of the language's own words are one line of the scaffold.
    let code = || {
        text.lines()
            .map(|line| line.split("//").next().unwrap_or(""))
    };
    let allows = code().any(|line| words(line, "unsafe_code") > 0);
    let count: usize = code()
        .filter(|line| words(line, "typeof") == 0)
        .map(|line| words(line, "unsafe"))
        .sum();
    (allows || count > 0).then_some(count)
}

#[test]
fn unsafe_code_is_listed_with_its_reason() {
    let mut files = Vec::new();
    for folder in ["host/src", "plugin-sdk", "plugins", "tests"] {
        rust_files(&root().join(folder), &mut files);
    }
    let root = root().canonicalize().expect("the workspace");
    let found: BTreeMap<String, usize> = files
        .into_iter()
        .filter_map(|file| {
            let file = file.canonicalize().expect("a source file");
            let name = file.strip_prefix(&root).expect("a file of ours");
            let name = name.to_str().expect("a name").to_owned();
            let ours = !name.contains("target/") && !name.starts_with("tests/tidy/");
            let text = std::fs::read_to_string(&file).expect("a source file");
            Some((name, places(&text).filter(|_| ours)?))
        })
        .collect();
    let table = std::fs::read_to_string(root.join("host/UNSAFE.md")).expect("host/UNSAFE.md");
    let listed: BTreeMap<String, usize> = table
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line
                .strip_prefix("| `")?
                .split('|')
                .map(str::trim)
                .collect();
            let [name, count, why, ..] = cells[..] else {
                panic!("no row: {line}")
            };
            assert!(why.len() > 40, "{name} has no reason");
            Some((
                name.trim_matches('`').to_owned(),
                count.parse().expect("a number"),
            ))
        })
        .collect();
    assert_eq!(found, listed, "host/UNSAFE.md does not say what there is");
}

#[test]
fn the_search_sees_what_it_should() {
    assert_eq!(places("fn f() { unsafe { g() } } // unsafe"), Some(1));
    assert_eq!(places("#![allow(unsafe_code)]"), Some(0));
    assert_eq!(places("// unsafe\nfn f() {}"), None);
}
