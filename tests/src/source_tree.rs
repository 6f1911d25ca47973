//! Where unsafe code is in this source tree, and what host/UNSAFE.md says of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// All Rust files below a folder.
pub fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// How often a word stands in the code of a line.
fn words(code: &str, word: &str) -> usize {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.split(|c| !part(c)).filter(|w| *w == word).count()
}

/// Places of `unsafe` in a file that has any, or allows them: none where it does neither.
pub fn places(text: &str) -> Option<usize> {
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

/// Files of the tree that have unsafe code or allow it, with how many places.
pub fn found(root: &Path) -> BTreeMap<String, usize> {
    let mut files = Vec::new();
    for folder in ["host/src", "plugin-sdk", "plugins", "tests"] {
        rust_files(&root.join(folder), &mut files);
    }
    let root = root.canonicalize().expect("the workspace");
    let place = |file: PathBuf| {
        let file = file.canonicalize().expect("a source file");
        let name = file.strip_prefix(&root).expect("a file of ours");
        let name = name.to_str().expect("a name").to_owned();
        // These speak of it.
        let speaks = [
            "tests/tidy/",
            "tests/src/source_tree.rs",
            "tests/prove/supply_chain.rs",
        ];
        let ours = !name.contains("target/") && !speaks.iter().any(|s| name.starts_with(s));
        let text = std::fs::read_to_string(&file).expect("a source file");
        Some((name, places(&text).filter(|_| ours)?))
    };
    files.into_iter().filter_map(place).collect()
}

/// Rows of host/UNSAFE.md: each has a reason.
pub fn listed(root: &Path) -> BTreeMap<String, usize> {
    let table = std::fs::read_to_string(root.join("host/UNSAFE.md")).expect("host/UNSAFE.md");
    let row = |line: &str| {
        let cells: Vec<&str> = line
            .strip_prefix("| `")?
            .split('|')
            .map(str::trim)
            .collect();
        let [name, count, why, ..] = cells[..] else {
            panic!("no row: {line}")
        };
        assert!(why.len() > 40, "{name} has no reason");
        let count = count.parse().expect("a number");
        Some((name.trim_matches('`').to_owned(), count))
    };
    table.lines().filter_map(row).collect()
}
