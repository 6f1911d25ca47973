//! From bytes to a component that may be used: what it is, which contract it speaks, what it wants
//! and offers, and what it says of itself. Nothing is compiled before the bytes passed their limits.

use std::fmt;
use std::sync::{Arc, Weak};

use sha2::{Digest, Sha256};
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::component::{self, Linker};

use super::child::{self, Care};
use super::code::Code;
use super::contract::{self, Capability, Exports, PACKAGE, WitVersion};
use super::engine::{ComponentLimits, Engine};
use super::host_calls::{About, Capabilities, escaped};
use super::pool::{fault_of, new_store};
use super::schema;
use super::wasi;
use super::witness::StateView;
use crate::domain::Hook;

// What Cranelift spends grows with these and the number of functions, so they are checked before it begins.
const FUNCTION_BYTES_MAX: usize = 512 << 10;
const MODULES_MAX: usize = 128;
const COMPONENTS_MAX: usize = 256;
const DESCRIBE_MS: u32 = 1_000;

/// What a component says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub summary: String,
    /// JSON Schema (2020-12), as text.
    pub config_schema: String,
}

/// What can be told of a component before anything is granted to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    pub manifest: Manifest,
    pub hooks: Vec<Hook>,
    /// Capabilities it wants: `logging`, `state`, `tables`, `http`; and `wasi (empty)`, which all may have.
    pub imports: Vec<&'static str>,
    /// SHA-256 of the component; [`digest_text`] is how it is written.
    pub digest: [u8; 32],
    pub size: usize,
    /// The version of heliograph:sms that it was built for.
    pub wit_version: String,
}

/// Why bytes are no plugin of ours. Always the uploader's to mend, but for `Compiler`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    TooLarge {
        bytes: usize,
        max_mib: u32,
    },
    Empty,
    CoreModule,
    NativeCode,
    Text,
    NotWasm,
    /// Not valid WebAssembly, or WebAssembly beyond what we allow.
    Invalid(String),
    WitVersion {
        wants: String,
    },
    MixedVersions {
        one: String,
        other: String,
    },
    /// A hook that its version of the contract does not have.
    HookOfLater {
        export: String,
    },
    /// An import of WASI that cannot be linked with nothing behind it, and why.
    Wasi {
        import: String,
        why: &'static str,
    },
    UnknownImport {
        import: String,
    },
    NoPlugin,
    NoHook,
    Schema(String),
    Describe(String),
    /// It could not be compiled within the limits.
    Compiler(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let serves = WitVersion::served();
        match self {
            LoadError::TooLarge { bytes, max_mib } => write!(
                f,
                "has {bytes} bytes; a component has at most {max_mib} MiB (plugins.max_component_mib)"
            ),
            LoadError::Empty => write!(f, "is empty"),
            LoadError::CoreModule => write!(
                f,
                "is a core WebAssembly module, not a component; `heliograph plugin build` makes a component of it"
            ),
            LoadError::NativeCode => write!(
                f,
                "is native code; only WebAssembly components are accepted"
            ),
            LoadError::Text => write!(f, "is text; a component in binary form is expected"),
            LoadError::NotWasm => write!(f, "is not WebAssembly"),
            LoadError::Invalid(why) => write!(f, "is not a valid component: {why}"),
            LoadError::WitVersion { wants } => {
                write!(f, "wants {wants}; this host serves {serves}")
            }
            LoadError::MixedVersions { one, other } => write!(
                f,
                "mixes two versions of the contract, {one} and {other}; a component is built for one"
            ),
            LoadError::HookOfLater { export } => write!(
                f,
                "exports {export}, which that version of the contract does not have"
            ),
            LoadError::Wasi { import, why } => write!(f, "imports {import}; {why}"),
            LoadError::UnknownImport { import } => write!(
                f,
                "imports {import}; a plugin may import logging, state, tables and http of heliograph:sms@{serves}"
            ),
            LoadError::NoPlugin => write!(
                f,
                "does not export heliograph:sms/plugin@{serves}, which every plugin does"
            ),
            LoadError::NoHook => write!(f, "exports no hook of heliograph:sms@{serves}"),
            LoadError::Schema(why) => write!(
                f,
                "describes its configuration by a schema that is none: {why}"
            ),
            LoadError::Describe(why) => write!(f, "cannot describe itself: {why}"),
            LoadError::Compiler(why) => write!(f, "cannot be compiled: {why}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// The octets of a component, whatever they are worth, and the name that nothing else has.
#[derive(Clone)]
pub(super) struct Component {
    pub bytes: Arc<Vec<u8>>,
    pub digest: [u8; 32],
}

impl Component {
    pub fn new(bytes: Vec<u8>) -> Component {
        Component {
            digest: Sha256::digest(&bytes).into(),
            bytes: Arc::new(bytes),
        }
    }
}

/// A component that passed every check that needs no policy.
pub(super) struct Loaded {
    pub digest: [u8; 32],
    pub size: usize,
    pub hooks: Vec<Hook>,
    pub imports: Vec<Capability>,
    /// It imports WASI.
    pub wasi: bool,
    pub wit_version: String,
    pub contract: WitVersion,
    pub manifest: Manifest,
    pub schema: jsonschema::Validator,
    pub code: Code,
}

/// `sha256:` and 64 hexadecimal digits.
pub fn digest_text(digest: &[u8; 32]) -> String {
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// What an uploaded component is; every check but those that need a policy.
pub async fn inspect_component(engine: &Engine, bytes: Vec<u8>) -> Result<Inspection, LoadError> {
    let loaded = load(engine, Component::new(bytes), Care::Thorough).await?;
    Ok(Inspection {
        manifest: loaded.manifest.clone(),
        hooks: loaded.hooks.clone(),
        imports: (loaded.imports.iter().map(|c| c.name()))
            .chain(loaded.wasi.then_some(wasi::NAME))
            .collect(),
        digest: loaded.digest,
        size: loaded.size,
        wit_version: loaded.wit_version.clone(),
    })
}

/// Checks, compiles and asks. What is loaded already is not loaded again. What was compiled quickly is
/// compiled well afterwards.
pub(super) async fn load(
    engine: &Engine,
    component: Component,
    care: Care,
) -> Result<Arc<Loaded>, LoadError> {
    let Component { bytes, digest } = component;
    let limits = engine.limits().component;
    if bytes.len() > limits.bytes() {
        return Err(LoadError::TooLarge {
            bytes: bytes.len(),
            max_mib: limits.max_mib,
        });
    }
    if let Some(loaded) = engine.loaded(&digest) {
        return Ok(loaded);
    }
    let size = bytes.len();
    let parsed = bytes.clone();
    let surface = tokio::task::spawn_blocking(move || surface(&parsed, &limits))
        .await
        .map_err(|e| LoadError::Compiler(e.to_string()))??;
    let (component, care) = child::compile(engine, &digest, bytes.clone(), care, false).await?;
    let manifest = describe(engine, &component, &surface).await?;
    let text = manifest.config_schema.clone();
    let schema = tokio::task::spawn_blocking(move || schema::validator(&text))
        .await
        .map_err(|e| LoadError::Compiler(e.to_string()))?
        .map_err(LoadError::Schema)?;
    let loaded = Arc::new(Loaded {
        digest,
        size,
        hooks: surface.hooks,
        imports: surface.imports,
        wasi: surface.wasi,
        wit_version: surface.wit_version,
        contract: surface.contract,
        manifest,
        schema,
        code: Code::new(component),
    });
    engine.remember(&loaded);
    if care == Care::Quick {
        tokio::spawn(improve(engine.clone(), Arc::downgrade(&loaded), bytes));
    }
    Ok(loaded)
}

/// Compiles well what was compiled quickly, one component at a time, unless nobody has it any more.
async fn improve(engine: Engine, of: Weak<Loaded>, bytes: Arc<Vec<u8>>) {
    let _turn = engine.improving().await;
    let Some(loaded) = of.upgrade() else {
        return;
    };
    let plugin = &loaded.manifest.name;
    let thorough = child::compile(&engine, &loaded.digest, bytes, Care::Thorough, true);
    match thorough.await {
        Ok((component, _)) => {
            for why in loaded.code.improve(&engine, component).await {
                tracing::warn!(plugin, why, "an entry goes on with quickly compiled code");
            }
        }
        Err(error) => {
            tracing::warn!(plugin, %error, "quickly compiled code stays in use");
        }
    }
}

/// What shows without running anything.
#[derive(Debug, PartialEq, Eq)]
struct Surface {
    hooks: Vec<Hook>,
    imports: Vec<Capability>,
    wasi: bool,
    wit_version: String,
    contract: WitVersion,
}

fn surface(bytes: &[u8], limits: &ComponentLimits) -> Result<Surface, LoadError> {
    kind(bytes)?;
    let (imports, exports) = names(bytes, limits.max_functions as usize)?;
    let mut spoken = Spoken::default();
    let mut surface = Surface {
        hooks: Vec::new(),
        imports: Vec::new(),
        wasi: false,
        wit_version: String::new(),
        contract: WitVersion::LATEST,
    };
    for export in &exports {
        let Some((interface, version)) = ours(export)? else {
            continue;
        };
        let contract = spoken.hears(export, version)?;
        if interface == "plugin" {
            surface.wit_version = version.to_owned();
            surface.contract = contract;
        }
        let hook = Hook::from_name(interface);
        if hook.is_some_and(|hook| !contract.has(hook)) {
            return Err(LoadError::HookOfLater {
                export: escaped(export),
            });
        }
        surface.hooks.extend(hook);
    }
    for import in &imports {
        if wasi::is_import(import) {
            match wasi::refusal(import) {
                None => surface.wasi = true,
                Some(why) => {
                    let import = escaped(import);
                    return Err(LoadError::Wasi { import, why });
                }
            }
            continue;
        }
        let unknown = || LoadError::UnknownImport {
            import: escaped(import),
        };
        let (interface, version) = ours(import)?.ok_or_else(unknown)?;
        spoken.hears(import, version)?;
        if interface == Capability::FREE {
            continue;
        }
        let capability = Capability::ALL.into_iter().find(|c| c.name() == interface);
        surface.imports.push(capability.ok_or_else(unknown)?);
    }
    if surface.wit_version.is_empty() {
        return Err(LoadError::NoPlugin);
    }
    if surface.hooks.is_empty() {
        return Err(LoadError::NoHook);
    }
    surface.hooks.sort_unstable();
    surface.imports.sort_unstable();
    surface.imports.dedup();
    wasmparser::Validator::new()
        .validate_all(bytes)
        .map_err(|e| LoadError::Invalid(e.to_string()))?;
    Ok(surface)
}

fn kind(bytes: &[u8]) -> Result<(), LoadError> {
    match bytes {
        [] => Err(LoadError::Empty),
        [0x7f, b'E', b'L', b'F', ..] => Err(LoadError::NativeCode),
        _ if Parser::is_component(bytes) => Ok(()),
        _ if Parser::is_core_wasm(bytes) => Err(LoadError::CoreModule),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_whitespace()) => {
                Err(LoadError::Text)
            }
            _ => Err(LoadError::NotWasm),
        },
    }
}

/// Names of the component's own imports and exports; what is nested in it is only counted.
fn names(bytes: &[u8], functions_max: usize) -> Result<(Vec<String>, Vec<String>), LoadError> {
    let invalid = |e: wasmparser::BinaryReaderError| LoadError::Invalid(e.to_string());
    let limit = |what: String| LoadError::Invalid(what);
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let (mut depth, mut functions, mut modules, mut components) = (0usize, 0usize, 0usize, 0usize);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding, .. } => {
                depth += 1;
                match encoding {
                    Encoding::Module => modules += 1,
                    Encoding::Component => components += 1,
                }
                if modules > MODULES_MAX || components > COMPONENTS_MAX {
                    return Err(limit(format!(
                        "it holds more than {MODULES_MAX} modules or {COMPONENTS_MAX} components"
                    )));
                }
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::CodeSectionStart { count, .. } => {
                functions += count as usize;
                if functions > functions_max {
                    return Err(limit(format!(
                        "it has more than {functions_max} functions (plugins.max_functions)"
                    )));
                }
            }
            Payload::CodeSectionEntry(body) if body.range().len() > FUNCTION_BYTES_MAX => {
                return Err(limit(format!(
                    "a function has more than {FUNCTION_BYTES_MAX} bytes"
                )));
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

/// Interface and version of a name of our package, none for another's; our package in a version
/// that we do not serve is an error.
fn ours(name: &str) -> Result<Option<(&str, &str)>, LoadError> {
    let Some(rest) = name.strip_prefix(PACKAGE) else {
        return Ok(None);
    };
    let Some(rest) = rest.strip_prefix('/') else {
        return Ok(None);
    };
    let wants = |version: &str| LoadError::WitVersion {
        wants: escaped(&format!("{PACKAGE}@{version}")),
    };
    let (interface, version) = rest.split_once('@').ok_or_else(|| wants("(no version)"))?;
    if WitVersion::of(version).is_none() {
        return Err(wants(version));
    }
    Ok(Some((interface, version)))
}

/// The one version of the contract that all names of a component are in.
#[derive(Default)]
struct Spoken(Option<(WitVersion, String)>);

impl Spoken {
    fn hears(&mut self, name: &str, version: &str) -> Result<WitVersion, LoadError> {
        let Some(contract) = WitVersion::of(version) else {
            return Err(LoadError::WitVersion {
                wants: escaped(name),
            });
        };
        match &self.0 {
            None => self.0 = Some((contract, escaped(name))),
            Some((first, _)) if *first == contract => {}
            Some((_, one)) => {
                return Err(LoadError::MixedVersions {
                    one: one.clone(),
                    other: escaped(name),
                });
            }
        }
        Ok(contract)
    }
}

/// Asks a real instance, with every capability linked and nothing behind any of them.
async fn describe(
    engine: &Engine,
    component: &component::Component,
    surface: &Surface,
) -> Result<Manifest, LoadError> {
    let failed = |e: wasmtime::Error| LoadError::Describe(format!("{e:#}"));
    let mut linker = Linker::new(engine.wasm());
    contract::link(surface.contract, &mut linker, &Capability::ALL).map_err(failed)?;
    if surface.wasi {
        wasi::link(&mut linker, component).map_err(failed)?;
    }
    let pre = linker.instantiate_pre(component).map_err(failed)?;
    let exports = Exports::find(surface.contract, &pre, &surface.hooks).map_err(failed)?;
    let grants = Arc::new(Capabilities::none("(inspection)"));
    let memory = (engine.limits().memory_max_mib as usize) << 20;
    let mut store = new_store(engine.wasm(), grants, memory);
    store
        .data_mut()
        .begin(DESCRIBE_MS, About::default(), StateView::Preview);
    store.set_epoch_deadline(1);
    let asked = async {
        let instance = pre.instantiate_async(&mut store).await?;
        let guest = exports.load(&mut store, &instance)?;
        guest.describe(&mut store).await
    }
    .await;
    match asked {
        Ok(Ok(manifest)) => Ok(manifest),
        Ok(Err(bad)) => Err(LoadError::Describe(bad.0)),
        Err(error) => Err(LoadError::Describe(
            fault_of(&mut store, &error, DESCRIBE_MS).to_string(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_guests::{self, Guest};
    use super::*;

    async fn refused(bytes: &[u8]) -> String {
        let engine = test_guests::engine();
        inspect_component(&engine, bytes.to_vec())
            .await
            .unwrap_err()
            .to_string()
    }

    #[tokio::test]
    async fn a_component_tells_what_it_is() {
        let bytes = test_guests::build(&Guest::default());
        let inspection = inspect_component(&test_guests::engine(), bytes.clone())
            .await
            .unwrap();
        assert_eq!(inspection.manifest.name, "guest");
        assert_eq!(inspection.hooks, [Hook::ContentFilter]);
        assert_eq!(inspection.imports, ["logging"]);
        assert_eq!(inspection.wit_version, "0.1.0");
        assert_eq!(inspection.size, bytes.len());
    }

    #[tokio::test]
    async fn what_is_no_component_is_called_what_it_is() {
        assert_eq!(refused(b"").await, "is empty");
        assert!(
            refused(b"\0asm\x01\0\0\0")
                .await
                .contains("core WebAssembly module")
        );
        assert!(
            refused(b"\x7fELF\x02\x01\x01")
                .await
                .contains("native code")
        );
        assert!(refused(b"(component)").await.contains("is text"));
        assert!(refused(&[0xff; 64]).await.contains("is not WebAssembly"));
        assert!(
            refused(b"\0asm\x0d\0\x01\0\xff\xff")
                .await
                .contains("not a valid component")
        );
        assert!(
            refused(&vec![0; ComponentLimits::default().bytes() + 1])
                .await
                .contains("at most 32 MiB (plugins.max_component_mib)")
        );
    }

    #[tokio::test]
    async fn a_component_of_another_world_is_refused_by_name() {
        let component = |text: &str| wat::parse_str(format!("(component {text})")).unwrap();
        let wants = |version: &str| {
            format!(r#"(instance $i) (export "heliograph:sms/plugin@{version}" (instance $i))"#)
        };
        assert!(refused(&component("")).await.contains("does not export"));
        let newer = refused(&component(&wants("0.4.0"))).await;
        assert_eq!(
            newer,
            "wants heliograph:sms@0.4.0; this host serves 0.1.0, 0.2.0 and 0.3.0"
        );
        assert!(
            refused(&component(&wants("0.1.0-rc")))
                .await
                .contains("0.1.0-rc")
        );
        assert!(
            refused(&component(&wants("0.1.3")))
                .await
                .contains("no hook")
        );
        let hook = format!(
            r#"{} (export "heliograph:sms/enrichment@0.1.0" (instance $i))"#,
            wants("0.1.0")
        );
        let early = refused(&component(&hook)).await;
        assert_eq!(
            early,
            "exports heliograph:sms/enrichment@0.1.0, which that version of the contract does not have"
        );
    }

    #[tokio::test]
    async fn a_component_that_mixes_two_versions_is_refused_by_their_names() {
        let mixed = wat::parse_str(
            r#"(component (import "heliograph:sms/logging@0.1.0" (instance))
                (instance $i) (export "heliograph:sms/plugin@0.2.0" (instance $i)))"#,
        );
        assert_eq!(
            refused(&mixed.unwrap()).await,
            "mixes two versions of the contract, heliograph:sms/plugin@0.2.0 and heliograph:sms/logging@0.1.0; a component is built for one"
        );
    }

    #[tokio::test]
    async fn an_import_that_is_no_capability_is_refused_by_name() {
        let importing = |name: &str| {
            wat::parse_str(format!(r#"(component (import "{name}" (instance)))"#)).unwrap()
        };
        let http = refused(&importing("wasi:http/outgoing-handler@0.2.3")).await;
        assert!(
            http.contains("wasi:http/outgoing-handler@0.2.3")
                && http.contains("heliograph:sms/http"),
            "{http}"
        );
        let newer = refused(&importing("wasi:cli/environment@0.3.0")).await;
        assert!(newer.contains("WASI 0.2 and no other"), "{newer}");
        let other = refused(&importing("wasi:keyvalue/store@0.2.0")).await;
        assert!(
            other.starts_with("imports wasi:keyvalue/store@0.2.0;"),
            "{other}"
        );
        let other = refused(&importing("acme:db/query@1.0.0")).await;
        assert!(other.starts_with("imports acme:db/query@1.0.0;"), "{other}");
        let hook = refused(&importing("heliograph:sms/secrets@0.1.0")).await;
        assert!(
            hook.starts_with("imports heliograph:sms/secrets@0.1.0;"),
            "{hook}"
        );
    }

    #[tokio::test]
    async fn what_would_keep_the_compiler_busy_is_refused_before_it_begins() {
        let module =
            |text: &str| wat::parse_str(format!("(component (core module {text}))")).unwrap();
        let many = refused(&module(&"(func)".repeat(40_001))).await;
        assert!(
            many.contains("40000 functions (plugins.max_functions)"),
            "{many}"
        );
        let long = refused(&module(&format!(
            "(func {})",
            "nop ".repeat(FUNCTION_BYTES_MAX + 1)
        )))
        .await;
        assert!(long.contains("524288 bytes"), "{long}");
        let modules = wat::parse_str(format!(
            "(component {})",
            "(core module)".repeat(MODULES_MAX + 1)
        ))
        .unwrap();
        assert!(refused(&modules).await.contains("128 modules"));
    }

    #[tokio::test]
    async fn a_hook_of_the_wrong_shape_is_refused() {
        let component = wat::parse_str(
            r#"(component (instance $i) (export "heliograph:sms/plugin@0.1.0" (instance $i))
                (export "heliograph:sms/content-filter@0.1.0" (instance $i)))"#,
        );
        let why = refused(&component.unwrap()).await;
        assert!(why.contains("does not have export `describe`"), "{why}");
    }

    #[tokio::test]
    async fn a_schema_that_is_none_or_refers_elsewhere_is_refused() {
        let with_schema = |schema: &str| {
            test_guests::build(&Guest {
                schema: schema.to_owned(),
                ..Guest::default()
            })
        };
        assert!(refused(&with_schema("{")).await.contains("schema"));
        assert!(
            refused(&with_schema(r#"{"type": 5}"#))
                .await
                .contains("schema")
        );
        let remote = refused(&with_schema(r#"{"$ref": "https://example.com/x"}"#)).await;
        assert!(remote.contains("schema"), "{remote}");
    }
}
