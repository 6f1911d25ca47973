//! The rules of the source tree that a compiler does not hold.

mod conformance;
mod unsafe_code;

use std::path::{Path, PathBuf};

use heliograph_tests::source_tree::rust_files;

/// Modules of the host by floor: a module names only lower floors, and nothing of its own floor but
/// itself. `main.rs` stands on top of all.
const FLOORS: &[(&str, u8)] = &[
    ("domain", 0),
    ("clock", 0),
    ("telemetry", 0),
    ("tls", 0),
    ("smpp", 1),
    ("store", 1),
    ("plugin", 1),
    ("carrier", 2),
    ("pipeline", 3),
    ("api", 4),
    ("console", 4),
    ("app", 5),
    ("config", 5),
    ("cli", 6),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/src")
}

/// Each host source file, the module it belongs to and its text.
fn modules() -> Vec<(PathBuf, String, String)> {
    let root = source();
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files
        .into_iter()
        .filter_map(|file| {
            let inside = file.strip_prefix(&root).ok()?;
            let first = inside.components().next()?.as_os_str().to_str()?;
            let module = first.trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&file).expect("a source file");
            (module != "lib" && module != "main").then_some((file, module, text))
        })
        .collect()
}

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(m, _)| *m == module).map(|(_, f)| *f)
}

/// Modules that a line of code names as `crate::module`, groups included.
fn named_modules(line: &str) -> Vec<String> {
    line.match_indices("crate::")
        .filter(|(at, _)| {
            !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
        })
        .flat_map(|(at, prefix)| {
            let rest = &line[at + prefix.len()..];
            let list = rest.strip_prefix('{').map_or(rest, |group| group);
            let grouped = rest.starts_with('{');
            list.split(if grouped { ',' } else { '\u{0}' })
                .map(|item| {
                    item.trim()
                        .chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect::<String>()
                })
                .collect::<Vec<_>>()
        })
        .filter(|name| floor_of(name).is_some())
        .collect()
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (file, module, text) in modules() {
        let Some(floor) = floor_of(&module) else {
            wrong.push(format!("{}: module {module} has no floor", file.display()));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            for named in named_modules(code) {
                let below = floor_of(&named).is_some_and(|f| f < floor);
                // clock is what floor 0 itself may read; config is what app is built from.
                let allowed = named == module
                    || (floor == 0 && named == "clock")
                    || (module == "app" && named == "config");
                if !below && !allowed {
                    wrong.push(format!(
                        "{}:{}: {module} (floor {floor}) names {named}",
                        file.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_floor_test_sees_what_it_should() {
    assert_eq!(named_modules("use crate::store::Store;"), ["store"]);
    assert_eq!(
        named_modules("use crate::{carrier::Carrier, plugin};"),
        ["carrier", "plugin"]
    );
    assert_eq!(
        named_modules("let x = my_crate::store();"),
        Vec::<String>::new()
    );
}

#[test]
fn only_the_clock_reads_the_time() {
    let mut wrong = Vec::new();
    for (file, module, text) in modules() {
        // Tools that stand outside the server measure with their own watch.
        if module == "clock" || module == "cli" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if code.contains("SystemTime::now") {
                wrong.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "SystemTime::now outside clock.rs:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_file_says_what_it_owns() {
    let wrong: Vec<String> = modules()
        .into_iter()
        .filter(|(_, _, text)| !text.trim_start().starts_with("//!"))
        .map(|(file, _, _)| file.display().to_string())
        .collect();
    assert!(
        wrong.is_empty(),
        "no `//!` at the top:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_file_outgrows_its_reader() {
    let wrong: Vec<String> = modules()
        .into_iter()
        .map(|(file, _, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > 900)
        .map(|(file, lines)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(wrong.is_empty(), "split these:\n{}", wrong.join("\n"));
}
