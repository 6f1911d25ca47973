//! host/SMPP.md keeps up with the code: every command_id, tag and command_status that has a name there
//! has a row, with its number, and every test that a row names exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Names and numbers of the `pub const NAME: TYPE = 0x...;` of a file.
fn constants(text: &str, of_type: &str) -> Vec<(String, u32)> {
    let line = |line: &str| {
        let rest = line.trim().strip_prefix("pub const ")?;
        let (name, rest) = rest.split_once(": ")?;
        let value = rest.strip_prefix(of_type)?.strip_prefix(" = 0x")?;
        let digits = value.trim_end_matches(';').replace('_', "");
        Some((name.to_owned(), u32::from_str_radix(&digits, 16).ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// First cells of all rows: the number, and the name.
fn rows(table: &str) -> Vec<(Option<u32>, String, Vec<String>)> {
    let row = |line: &str| {
        let cells: Vec<String> = line
            .strip_prefix("| ")?
            .trim_end_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect();
        let number = cells.first()?.trim_matches('`');
        let number = number.strip_prefix("0x").map(|hex| hex.replace('_', ""));
        let number = number.and_then(|hex| u32::from_str_radix(&hex, 16).ok());
        let name = cells.get(1)?.trim_matches('`').to_owned();
        Some((number, name, cells))
    };
    table.lines().filter_map(row).collect()
}

#[test]
fn every_command_tag_and_status_has_its_row() {
    let rows = rows(&read("host/SMPP.md"));
    let mut missing = Vec::new();
    let pdu = read("host/src/smpp/pdu.rs");
    let commands = constants(&pdu, "u32");
    let requests = commands
        .iter()
        .filter(|(name, _)| name != "RESPONSE" && !name.ends_with("_RESP"));
    let tags = constants(&read("host/src/smpp/tlv.rs"), "u16");
    let wanted = requests
        .chain(&tags)
        .map(|(name, value)| (name.to_lowercase(), *value));
    let statuses = constants(&read("host/src/smpp/status.rs"), "u32");
    assert!(commands.len() > 20 && tags.len() > 15 && statuses.len() > 40);
    for (name, value) in wanted.chain(statuses) {
        let has = |(number, row, _): &&(Option<u32>, String, Vec<String>)| {
            *number == Some(value) && row.eq_ignore_ascii_case(&name)
        };
        if !rows.iter().any(|row| has(&row)) {
            missing.push(format!("{value:#06x} {name}"));
        }
    }
    assert!(
        missing.is_empty(),
        "no row in host/SMPP.md:\n{}",
        missing.join("\n")
    );
}

/// Names of all functions in Rust files below `folder`.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            for (at, _) in text.match_indices("fn ") {
                let name = text[at + 3..].split(|c: char| !c.is_alphanumeric() && c != '_');
                found.extend(name.map(str::to_owned).next());
            }
        }
    }
}

#[test]
fn every_test_that_a_row_names_exists() {
    let mut known = BTreeSet::new();
    functions(&root().join("host/src"), &mut known);
    functions(&root().join("tests"), &mut known);
    let table = read("host/SMPP.md");
    let mut named = 0;
    let mut missing = Vec::new();
    for (_, row, cells) in rows(&table) {
        let Some(last) = cells
            .last()
            .filter(|_| row != "name" && !row.starts_with("--"))
        else {
            continue;
        };
        let tests = last.split('`').skip(1).step_by(2);
        let tests: Vec<&str> = tests.collect();
        if tests.is_empty() {
            missing.push(format!("{row}: names no test"));
        }
        for test in tests {
            named += 1;
            if !known.contains(test) {
                missing.push(format!("{row}: {test}"));
            }
        }
    }
    assert!(named > 100, "{named} tests");
    assert!(
        missing.is_empty(),
        "in host/SMPP.md:\n{}",
        missing.join("\n")
    );
}
