//! `heliograph plugin new`, `build` and `inspect`: from an empty folder to a component an operator can deploy.
//! A component is only read here, never run: what it says of itself (`describe`) is the plugin runtime's to ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use super::toolchain::{self, ToolchainError};

/// A larger file is not read. Plugins take some hundred kilobytes.
pub const MAX_COMPONENT_BYTES: u64 = 32 * 1024 * 1024;

/// The package whose interfaces are hooks and capabilities.
const PACKAGE: &str = "heliograph:sms";
const WIT_VERSION: &str = "0.1.0";
const CAPABILITIES: [&str; 4] = ["logging", "state", "tables", "http"];

/// The plugin author's crate, in a checkout.
const SDK_IN_CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-sdk");

#[derive(Args, Debug)]
#[command(after_help = "Example: heliograph plugin new no-links --hook content-filter")]
pub struct New {
    /// Lower-case letters, digits and hyphens, as in `no-links`.
    pub name: String,
    /// What the plugin is to do.
    #[arg(long, value_enum)]
    pub hook: Hook,
    /// The folder to make; ./NAME unless given.
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Example: heliograph plugin build plugins --out target/plugins")]
pub struct Build {
    /// A plugin's crate, a workspace, or a folder of crates.
    #[arg(value_name = "PATH", default_value = ".")]
    pub paths: Vec<PathBuf>,
    /// Where the components go; `target/plugins` of their workspace unless given.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Fetch and install nothing.
    #[arg(long)]
    pub offline: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Example: heliograph plugin inspect target/plugins/content-filter.wasm")]
pub struct Inspect {
    /// A component.
    pub file: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    ContentFilter,
    ComplianceCheck,
    RoutingPolicy,
    CarrierAdapter,
    InboundHandler,
}

impl Hook {
    const ALL: [Self; 5] = [
        Self::ContentFilter,
        Self::ComplianceCheck,
        Self::RoutingPolicy,
        Self::CarrierAdapter,
        Self::InboundHandler,
    ];

    /// The name of its interface in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::ContentFilter => "content-filter",
            Self::ComplianceCheck => "compliance-check",
            Self::RoutingPolicy => "routing-policy",
            Self::CarrierAdapter => "carrier-adapter",
            Self::InboundHandler => "inbound-handler",
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::ContentFilter => {
                include_str!("../../../plugin-sdk/template/src/content-filter.rs")
            }
            Self::ComplianceCheck => {
                include_str!("../../../plugin-sdk/template/src/compliance-check.rs")
            }
            Self::RoutingPolicy => {
                include_str!("../../../plugin-sdk/template/src/routing-policy.rs")
            }
            Self::CarrierAdapter => {
                include_str!("../../../plugin-sdk/template/src/carrier-adapter.rs")
            }
            Self::InboundHandler => {
                include_str!("../../../plugin-sdk/template/src/inbound-handler.rs")
            }
        }
    }

    /// The configuration that its template's test uses, as a policy file has it.
    fn sample_config(self) -> &'static str {
        match self {
            Self::ContentFilter => "config = { word = \"prize\" }",
            Self::ComplianceCheck => "config = { daily_limit = 3 }",
            Self::RoutingPolicy => "config = { order = [\"north\", \"south\"] }",
            Self::CarrierAdapter => "config = { url = \"https://carrier.example/sms\" }",
            Self::InboundHandler => "config = { keyword = \"reply\", answer = \"Thank you\" }",
        }
    }
}

/// What a component says of itself without being run.
#[derive(Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    pub size: usize,
    /// The version of heliograph:sms that it was built for.
    pub wit_version: String,
    pub hooks: Vec<Hook>,
    /// Capabilities it wants granted, each with the functions it calls.
    pub imports: BTreeMap<String, Vec<String>>,
    /// Imports that this host does not offer, so that it cannot be deployed here.
    pub unknown_imports: Vec<String>,
}

#[derive(Debug)]
pub enum PluginError {
    /// Somebody asked for what cannot be.
    Usage(String),
    Io {
        path: PathBuf,
        reason: std::io::Error,
    },
    /// The file is no plugin; whoever made it has to mend it.
    NotAPlugin {
        path: PathBuf,
        reason: String,
    },
    Toolchain(ToolchainError),
}

impl fmt::Display for PluginError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(reason) => out.write_str(reason),
            Self::Io { path, reason } => write!(out, "{}: {reason}", path.display()),
            Self::NotAPlugin { path, reason } => write!(out, "{}: {reason}", path.display()),
            Self::Toolchain(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for PluginError {}

impl From<ToolchainError> for PluginError {
    fn from(error: ToolchainError) -> Self {
        Self::Toolchain(error)
    }
}

/// Writes a crate that builds, with a test, a README and a sample input.
pub fn new(args: &New) -> Result<(), PluginError> {
    check_name(&args.name)?;
    let directory = args
        .path
        .clone()
        .unwrap_or_else(|| PathBuf::from(&args.name));
    let member = in_checkout_plugins(&directory);
    let files = scaffold(&args.name, args.hook, member);
    write_crate(&directory, &files)?;
    if args.json {
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        println!(
            "{}",
            serde_json::json!({"name": args.name, "hook": args.hook, "path": directory, "files": names})
        );
    } else {
        println!("made {} ({})", directory.display(), args.hook.name());
        println!(
            "next: cd {} && cargo test && heliograph plugin build",
            directory.display()
        );
    }
    Ok(())
}

/// Builds plugins into components.
pub fn build(args: &Build) -> Result<(), PluginError> {
    let toolchain = toolchain::find(args.offline)?;
    eprintln!("building with {}", toolchain.describe());
    let crates = toolchain::crates(&toolchain, &args.paths)?;
    let components = toolchain::build(&toolchain, &crates, args.offline)?;
    let mut built = Vec::new();
    for component in &components {
        let directory = args.out.as_ref().unwrap_or(&component.directory);
        let file = directory.join(format!("{}.wasm", component.name));
        let inspection =
            inspect_bytes(&component.bytes).map_err(|reason| PluginError::NotAPlugin {
                path: PathBuf::from(&component.name),
                reason,
            })?;
        replace_file(&file, &component.bytes)?;
        built.push((component.name.as_str(), file, inspection));
    }
    if args.json {
        let plugins: Vec<_> = built
            .iter()
            .map(|(name, file, inspection)| serde_json::json!({"name": name, "file": file, "component": inspection}))
            .collect();
        println!("{}", serde_json::json!({ "plugins": plugins }));
    } else {
        for (_, file, inspection) in &built {
            println!(
                "{}  {} KiB  {}",
                file.display(),
                inspection.size.div_ceil(1024),
                inspection.summary()
            );
        }
    }
    Ok(())
}

/// Tells what a component serves and wants.
pub fn inspect(args: &Inspect) -> Result<(), PluginError> {
    let bytes = read_component(&args.file)?;
    let inspection = inspect_bytes(&bytes).map_err(|reason| PluginError::NotAPlugin {
        path: args.file.clone(),
        reason,
    })?;
    if args.json {
        println!("{}", serde_json::json!(inspection));
        return Ok(());
    }
    let imports: Vec<String> = inspection
        .imports
        .iter()
        .map(|(name, functions)| format!("{name} ({})", functions.join(", ")))
        .collect();
    let hooks: Vec<&str> = inspection.hooks.iter().map(|hook| hook.name()).collect();
    println!("digest   {}", inspection.digest);
    println!("size     {} bytes", inspection.size);
    println!("contract {PACKAGE}@{}", inspection.wit_version);
    println!("hooks    {}", hooks.join(", "));
    println!(
        "imports  {}",
        if imports.is_empty() {
            "none".to_owned()
        } else {
            imports.join(", ")
        }
    );
    if !inspection.unknown_imports.is_empty() {
        println!(
            "unknown  {}: this host does not offer them",
            inspection.unknown_imports.join(", ")
        );
    }
    Ok(())
}

impl Inspection {
    fn summary(&self) -> String {
        let hooks: Vec<&str> = self.hooks.iter().map(|hook| hook.name()).collect();
        let imports: Vec<&str> = self.imports.keys().map(String::as_str).collect();
        let wants = if imports.is_empty() {
            "nothing".to_owned()
        } else {
            imports.join(", ")
        };
        format!("serves {}; wants {wants}", hooks.join(", "))
    }
}

/// Reads a component from memory. The error says what the bytes are instead.
pub fn inspect_bytes(bytes: &[u8]) -> Result<Inspection, String> {
    check_kind(bytes)?;
    let types = Validator::new_with_features(WasmFeatures::default())
        .validate_all(bytes)
        .map_err(|error| format!("not a valid component: {error}"))?;
    let (imports, exports) =
        top_level_names(bytes).map_err(|error| format!("not a valid component: {error}"))?;
    let wit_version = exports
        .iter()
        .find_map(|name| contract_interface(name).filter(|(interface, _)| *interface == "plugin"))
        .map(|(_, version)| version.to_owned())
        .ok_or_else(|| {
            let known = exports.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
            format!("exports no {PACKAGE}/plugin, so it is a component but no Heliograph plugin (it exports: {known})")
        })?;
    let hooks: BTreeSet<Hook> = exports.iter().filter_map(|name| hook_of(name)).collect();
    if hooks.is_empty() {
        return Err(format!(
            "exports no hook of {PACKAGE}: does the crate call heliograph_plugin::export!?"
        ));
    }
    let (imports, unknown_imports) = capabilities(types.as_ref(), &imports);
    let digest = Sha256::digest(bytes)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect::<String>();
    Ok(Inspection {
        digest: format!("sha256:{digest}"),
        size: bytes.len(),
        wit_version,
        hooks: hooks.into_iter().collect(),
        imports,
        unknown_imports,
    })
}

/// Tells apart what people hand in instead of a component, before any parsing.
fn check_kind(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(b"\x7fELF") {
        return Err(
            "native code (ELF): only components are accepted, never compiled artefacts".to_owned(),
        );
    }
    if bytes.trim_ascii_start().starts_with(b"(") {
        return Err("WebAssembly text: a component is the binary format".to_owned());
    }
    if Parser::is_core_wasm(bytes) {
        return Err(
            "a core module, not a component: build it with `heliograph plugin build`".to_owned(),
        );
    }
    if !Parser::is_component(bytes) {
        return Err("not WebAssembly: it does not begin with a component's header".to_owned());
    }
    Ok(())
}

/// The names that the outermost component imports and exports; nested ones are its own business.
fn top_level_names(bytes: &[u8]) -> wasmparser::Result<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

/// The capabilities among the imports with the functions called, and the imports that are none.
/// An instance without functions is the shared types: it asks for nothing.
fn capabilities(
    types: TypesRef<'_>,
    imports: &[String],
) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
    let (mut known, mut unknown) = (BTreeMap::new(), Vec::new());
    for name in imports {
        let functions = match types.component_item_for_import(name).map(|item| item.ty) {
            Some(ComponentEntityType::Instance(id)) => {
                let exports = types[id].exports.iter();
                exports
                    .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)))
                    .map(|(name, _)| name.clone())
                    .collect()
            }
            Some(_) | None => vec![name.clone()],
        };
        match contract_interface(name) {
            _ if functions.is_empty() => {}
            Some((interface, WIT_VERSION)) if CAPABILITIES.contains(&interface) => {
                known.insert(interface.to_owned(), functions);
            }
            Some(_) | None => unknown.push(name.clone()),
        }
    }
    (known, unknown)
}

/// `heliograph:sms/state@0.1.0` is (`state`, `0.1.0`).
fn contract_interface(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?
        .strip_prefix('/')?
        .split_once('@')
}

fn hook_of(name: &str) -> Option<Hook> {
    let (interface, _) = contract_interface(name)?;
    Hook::ALL.into_iter().find(|hook| hook.name() == interface)
}

fn read_component(path: &Path) -> Result<Vec<u8>, PluginError> {
    let io = |reason| PluginError::Io {
        path: path.to_owned(),
        reason,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(MAX_COMPONENT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_COMPONENT_BYTES {
        let reason = format!(
            "larger than {} MiB, the most a plugin may have",
            MAX_COMPONENT_BYTES / 1024 / 1024
        );
        return Err(PluginError::NotAPlugin {
            path: path.to_owned(),
            reason,
        });
    }
    Ok(bytes)
}

/// Whoever watches the file sees the old component or the new one, never half of it.
fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), PluginError> {
    let io = |reason| PluginError::Io {
        path: path.to_owned(),
        reason,
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(io)?;
    }
    let partial = path.with_extension("wasm.partial");
    std::fs::write(&partial, bytes).map_err(io)?;
    std::fs::rename(&partial, path).map_err(io)
}

const RUST_WORDS: &str = " abstract alloc as async await become box break const continue core crate do dyn else enum \
    extern false final fn for gen if impl in let loop macro match mod move mut override priv proc-macro pub ref \
    return schemars self serde static std struct super test trait true try type typeof unsafe unsized use virtual \
    where while yield heliograph-plugin serde-json ";

fn check_name(name: &str) -> Result<(), PluginError> {
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
fn scaffold(name: &str, hook: Hook, member: bool) -> Vec<(&'static str, String)> {
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
        .replace("{wit}", WIT_VERSION)
        .replace("{config}", hook.sample_config());
    vec![
        ("Cargo.toml", named(&manifest)),
        ("README.md", named(&readme)),
        (
            ".gitignore",
            include_str!("../../../plugin-sdk/template/gitignore.in").to_owned(),
        ),
        (
            "sample.json",
            include_str!("../../../plugin-sdk/template/sample.json").to_owned(),
        ),
        ("src/lib.rs", named(hook.template())),
    ]
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

fn in_checkout_plugins(directory: &Path) -> bool {
    let plugins = Path::new(SDK_IN_CHECKOUT).join("../plugins").canonicalize();
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent.canonicalize(),
        Some(_) | None => Path::new(".").canonicalize(),
    };
    matches!((plugins, parent), (Ok(plugins), Ok(parent)) if plugins == parent)
}

fn write_crate(directory: &Path, files: &[(&str, String)]) -> Result<(), PluginError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn component(text: &str) -> Vec<u8> {
        wat::parse_str(text).expect("valid text")
    }

    const PLUGIN: &str = r#"
        (component
            (import "heliograph:sms/types@0.1.0" (instance
                (type u64) (export "timestamp" (type (eq 0)))))
            (import "heliograph:sms/tables@0.1.0" (instance
                (export "lookup" (func (param "table" string) (param "key" string) (result (option string))))))
            (instance)
            (export "heliograph:sms/plugin@0.1.0" (instance 2))
            (export "heliograph:sms/routing-policy@0.1.0" (instance 2))
            (export "heliograph:sms/content-filter@0.1.0" (instance 2)))"#;

    fn refusal(bytes: &[u8]) -> String {
        inspect_bytes(bytes).expect_err("no plugin")
    }

    #[test]
    fn hooks_are_what_is_exported() {
        let inspection = inspect_bytes(&component(PLUGIN)).expect("a plugin");
        assert_eq!(
            inspection.hooks,
            vec![Hook::ContentFilter, Hook::RoutingPolicy]
        );
        assert_eq!(inspection.wit_version, "0.1.0");
    }

    #[test]
    fn imports_are_capabilities_with_their_functions_and_types_are_none() {
        let inspection = inspect_bytes(&component(PLUGIN)).expect("a plugin");
        assert_eq!(
            inspection.imports,
            BTreeMap::from([("tables".to_owned(), vec!["lookup".to_owned()])])
        );
        assert_eq!(inspection.unknown_imports, Vec::<String>::new());
    }

    #[test]
    fn an_import_that_no_host_offers_is_told_apart() {
        let text = PLUGIN.replace("heliograph:sms/tables@0.1.0", "wasi:filesystem/types@0.2.0");
        let inspection = inspect_bytes(&component(&text)).expect("a plugin");
        assert_eq!(
            inspection.unknown_imports,
            vec!["wasi:filesystem/types@0.2.0".to_owned()]
        );
    }

    #[test]
    fn a_capability_of_another_contract_version_is_not_offered() {
        let text = PLUGIN.replace("heliograph:sms/tables@0.1.0", "heliograph:sms/tables@0.9.0");
        let inspection = inspect_bytes(&component(&text)).expect("a plugin");
        assert_eq!(
            inspection.unknown_imports,
            vec!["heliograph:sms/tables@0.9.0".to_owned()]
        );
    }

    #[test]
    fn a_core_module_is_refused_as_one() {
        assert!(refusal(&component("(module)")).starts_with("a core module"));
    }

    #[test]
    fn native_code_text_and_anything_else_are_told_apart() {
        assert!(refusal(b"\x7fELF\x02\x01\x01").starts_with("native code"));
        assert!(refusal(b"(component)").starts_with("WebAssembly text"));
        assert!(refusal(b"hello").starts_with("not WebAssembly"));
        assert!(refusal(b"").starts_with("not WebAssembly"));
    }

    #[test]
    fn a_component_of_someone_else_is_no_plugin() {
        assert!(refusal(&component("(component)")).contains("no Heliograph plugin"));
    }

    #[test]
    fn a_cut_off_component_is_refused_or_has_lost_whole_exports() {
        let whole = component(PLUGIN);
        for length in 0..whole.len() {
            let hooks =
                inspect_bytes(&whole[..length]).map_or(0, |inspection| inspection.hooks.len());
            assert!(hooks < 2, "{length} of {} octets", whole.len());
        }
    }

    #[test]
    fn the_digest_is_of_the_bytes() {
        let bytes = component(PLUGIN);
        let other = component(&PLUGIN.replace("lookup", "look-up"));
        let digest = |bytes: &[u8]| inspect_bytes(bytes).expect("a plugin").digest;
        assert_eq!(digest(&bytes).len(), "sha256:".len() + 64);
        assert_ne!(digest(&bytes), digest(&other));
    }

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
