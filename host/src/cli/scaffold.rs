//! What `heliograph plugin new` writes: a crate that builds, with tests, cases and a README. The files are those of
//! `plugin-sdk/template`, where they are compiled and tested; here the name is put in.

use std::path::Path;

use super::component::Hook;
use super::plugin::PluginError;
use crate::plugin::WitVersion;

/// The plugin author's crate, in a checkout.
const SDK_IN_CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-sdk");

const RUST_WORDS: &str = " abstract alloc as async await become box break const continue core crate do dyn else enum \
    extern false final fn for gen if impl in let loop macro match mod move mut override priv proc-macro pub ref \
    return schemars self serde static std struct super test trait true try type typeof unsafe unsized use virtual \
    where while yield heliograph-plugin serde-json ";

pub fn check_name(name: &str) -> Result<(), PluginError> {
    let rule =
        "use lower-case letters, digits and single hyphens, beginning with a letter, at most 64";
    let words_are_plain = name.split('-').all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9'))
    });
    if !words_are_plain
        || !name.starts_with(|first: char| first.is_ascii_lowercase())
        || name.len() > 64
    {
        return Err(PluginError::Usage(format!(
            "\"{name}\" cannot be a plugin's name: {rule}"
        )));
    }
    if RUST_WORDS.contains(&format!(" {name} ")) {
        return Err(PluginError::Usage(format!(
            "\"{name}\" cannot be a plugin's name: Rust or a dependency has it"
        )));
    }
    Ok(())
}

/// The files of a new crate, by path. `member` of this repository's workspace takes its profile from there.
pub fn scaffold(name: &str, hook: Hook, member: bool) -> Vec<(&'static str, String)> {
    let template = template(hook);
    let type_name: String = name.split('-').map(capitalised).collect();
    let named = |text: &str| {
        text.replace("example-plugin", name)
            .replace("ExamplePlugin", &type_name)
    };
    let standalone = if member {
        ""
    } else {
        include_str!("../../../plugin-sdk/template/standalone.toml.in")
    };
    let manifest = include_str!("../../../plugin-sdk/template/Cargo.toml.in")
        .replace("{sdk}", &sdk_dependency())
        .replace("{standalone}\n", standalone);
    let readme = include_str!("../../../plugin-sdk/template/README.md.in")
        .replace("{hook}", hook.name())
        .replace("{wit}", WitVersion::LATEST.name())
        .replace("{config}", template.config);
    let mut files = vec![
        ("Cargo.toml", named(&manifest)),
        ("README.md", named(&readme)),
        (
            ".gitignore",
            include_str!("../../../plugin-sdk/template/gitignore.in").to_owned(),
        ),
        ("src/lib.rs", named(template.source)),
    ];
    let cases = template.cases.iter();
    files.extend(cases.map(|(path, text)| (*path, (*text).to_owned())));
    files
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase())
        .into_iter()
        .chain(letters)
        .collect()
}

/// The checkout that this program was built from, where it is still there; else the published crate.
fn sdk_dependency() -> String {
    match Path::new(SDK_IN_CHECKOUT).canonicalize() {
        Ok(path) => format!("{{ path = {} }}", serde_json::json!(path)),
        Err(_) => format!("\"{}\"", env!("CARGO_PKG_VERSION")),
    }
}

pub fn in_checkout_plugins(directory: &Path) -> bool {
    let plugins = Path::new(SDK_IN_CHECKOUT).join("../plugins").canonicalize();
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent.canonicalize(),
        Some(_) | None => Path::new(".").canonicalize(),
    };
    matches!((plugins, parent), (Ok(plugins), Ok(parent)) if plugins == parent)
}

pub fn write_crate(directory: &Path, files: &[(&str, String)]) -> Result<(), PluginError> {
    let taken = match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(reason) => {
            return Err(PluginError::Io {
                path: directory.to_owned(),
                reason,
            });
        }
    };
    if taken {
        return Err(PluginError::Usage(format!(
            "{} is not empty, and nothing is overwritten",
            directory.display()
        )));
    }
    for (name, text) in files {
        let path = directory.join(name);
        let io = |reason| PluginError::Io {
            path: path.clone(),
            reason,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        std::fs::write(&path, text).map_err(io)?;
    }
    Ok(())
}

/// What is made for a hook.
struct Template {
    source: &'static str,
    /// The configuration that its tests and cases use, as a policy file has it.
    config: &'static str,
    /// Cases and what is expected of them, by path.
    cases: &'static [(&'static str, &'static str)],
}

/// A hook's files in `plugin-sdk/template`: its source, and the two cases that are named.
macro_rules! template {
    ($hook:literal, $one:literal, $two:literal, $config:literal) => {
        Template {
            source: include_str!(concat!("../../../plugin-sdk/template/src/", $hook, ".rs")),
            config: $config,
            cases: &[
                template!(@case $hook, "defaults.json"),
                template!(@case $hook, concat!($one, ".json")),
                template!(@case $hook, concat!($one, ".expect.json")),
                template!(@case $hook, concat!($two, ".json")),
                template!(@case $hook, concat!($two, ".expect.json")),
            ],
        }
    };
    (@case $hook:literal, $file:expr) => {
        (
            concat!("cases/", $file),
            include_str!(concat!("../../../plugin-sdk/template/cases/", $hook, "/", $file)),
        )
    };
}

fn template(hook: Hook) -> Template {
    match hook {
        Hook::Enrichment => template!(
            "enrichment",
            "a-known-prefix",
            "an-unknown-prefix",
            "config = { table = \"networks\" }\ngrants = { tables = [\"networks\"] }"
        ),
        Hook::ContentFilter => template!(
            "content-filter",
            "holds-the-word",
            "another-text",
            "config = { word = \"prize\" }"
        ),
        Hook::ComplianceCheck => template!(
            "compliance-check",
            "below-the-limit",
            "at-the-limit",
            "config = { daily_limit = 3 }"
        ),
        Hook::RoutingPolicy => template!(
            "routing-policy",
            "both-connected",
            "north-is-down",
            "config = { order = [\"north\", \"south\"] }"
        ),
        Hook::CarrierAdapter => template!(
            "carrier-adapter",
            "taken",
            "no-answer",
            "config = { url = \"https://carrier.example/sms\" }\ngrants = { http = { hosts = [\"carrier.example:443\"] } }"
        ),
        Hook::InboundHandler => template!(
            "inbound-handler",
            "the-keyword",
            "another-text",
            "config = { keyword = \"reply\", answer = \"Thank you\" }"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_before_anything_is_written() {
        for name in [
            "",
            "No-Links",
            "1st",
            "-a",
            "a--b",
            "a-",
            "a_b",
            "../x",
            "fn",
            "serde",
            &"a".repeat(65),
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["a", "no-links", "k9"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_scaffold_bears_the_new_name_everywhere() {
        for hook in Hook::ALL {
            for (file, text) in scaffold("no-links", hook, false) {
                assert!(
                    !text.contains("example-plugin") && !text.contains("ExamplePlugin"),
                    "{file}"
                );
                assert!(
                    !text.contains("{sdk}")
                        && !text.contains("{standalone}")
                        && !text.contains("{hook}"),
                    "{file}"
                );
            }
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("notes"), "mine").expect("written");
        let error = write_crate(
            folder.path(),
            &scaffold("no-links", Hook::ContentFilter, false),
        )
        .expect_err("taken");
        assert!(
            error.to_string().contains("nothing is overwritten"),
            "{error}"
        );
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("readable").count(),
            1
        );
    }
}
