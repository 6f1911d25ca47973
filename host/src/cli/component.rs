//! Reads a component without running it: the hooks it serves, the capabilities it wants, its contract version and
//! digest. What it says of itself (`describe`) needs an instance, and is the plugin runtime's to ask.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use crate::plugin::WitVersion;

/// The package whose interfaces are hooks and capabilities.
pub const PACKAGE: &str = "heliograph:sms";
const CAPABILITIES: [&str; 4] = ["logging", "state", "tables", "http"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    Enrichment,
    ContentFilter,
    ComplianceCheck,
    RoutingPolicy,
    CarrierAdapter,
    InboundHandler,
}

impl Hook {
    pub const ALL: [Self; 6] = [
        Self::Enrichment,
        Self::ContentFilter,
        Self::ComplianceCheck,
        Self::RoutingPolicy,
        Self::CarrierAdapter,
        Self::InboundHandler,
    ];

    /// The name of its interface in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enrichment => "enrichment",
            Self::ContentFilter => "content-filter",
            Self::ComplianceCheck => "compliance-check",
            Self::RoutingPolicy => "routing-policy",
            Self::CarrierAdapter => "carrier-adapter",
            Self::InboundHandler => "inbound-handler",
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

impl Inspection {
    /// One line for a list.
    pub fn summary(&self) -> String {
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
pub fn inspect(bytes: &[u8]) -> Result<Inspection, String> {
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
    let names = exports.iter().chain(&imports);
    let spoken: BTreeSet<&str> = names
        .filter_map(|name| contract_interface(name))
        .filter_map(|(_, version)| WitVersion::of(version))
        .map(WitVersion::name)
        .collect();
    if spoken.len() > 1 {
        let versions: Vec<&str> = spoken.into_iter().collect();
        return Err(format!(
            "mixes {PACKAGE}@{}: a component is built for one version of the contract",
            versions.join(" and @")
        ));
    }
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
            // Linked with nothing behind it; which functions is no matter of anybody's.
            _ if crate::plugin::is_empty_wasi(name) => {
                known.insert(crate::plugin::WASI_NAME.to_owned(), Vec::new());
            }
            Some((interface, version))
                if CAPABILITIES.contains(&interface) && WitVersion::of(version).is_some() =>
            {
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
        inspect(bytes).expect_err("no plugin")
    }

    #[test]
    fn hooks_are_what_is_exported() {
        let inspection = inspect(&component(PLUGIN)).expect("a plugin");
        assert_eq!(
            inspection.hooks,
            vec![Hook::ContentFilter, Hook::RoutingPolicy]
        );
        assert_eq!(inspection.wit_version, "0.1.0");
    }

    #[test]
    fn imports_are_capabilities_with_their_functions_and_types_are_none() {
        let inspection = inspect(&component(PLUGIN)).expect("a plugin");
        assert_eq!(
            inspection.imports,
            BTreeMap::from([("tables".to_owned(), vec!["lookup".to_owned()])])
        );
        assert_eq!(inspection.unknown_imports, Vec::<String>::new());
    }

    #[test]
    fn an_import_that_no_host_offers_is_told_apart() {
        let text = PLUGIN.replace("heliograph:sms/tables@0.1.0", "wasi:http/types@0.2.0");
        let inspection = inspect(&component(&text)).expect("a plugin");
        assert_eq!(
            inspection.unknown_imports,
            vec!["wasi:http/types@0.2.0".to_owned()]
        );
        let text = PLUGIN.replace("heliograph:sms/tables@0.1.0", "wasi:random/random@0.2.6");
        let inspection = inspect(&component(&text)).expect("a plugin");
        assert_eq!(inspection.unknown_imports, Vec::<String>::new());
        assert!(inspection.imports.contains_key("wasi (empty)"));
    }

    #[test]
    fn a_capability_of_another_contract_version_is_not_offered() {
        let text = PLUGIN.replace("heliograph:sms/tables@0.1.0", "heliograph:sms/tables@0.9.0");
        let inspection = inspect(&component(&text)).expect("a plugin");
        assert_eq!(
            inspection.unknown_imports,
            vec!["heliograph:sms/tables@0.9.0".to_owned()]
        );
    }

    #[test]
    fn every_version_that_the_host_serves_is_known_and_two_at_once_are_refused() {
        let newer = PLUGIN.replace("@0.1.0", "@0.2.0");
        let inspection = inspect(&component(&newer)).expect("a plugin");
        assert_eq!(inspection.wit_version, "0.2.0");
        assert_eq!(inspection.unknown_imports, Vec::<String>::new());
        let mixed = newer.replace("sms/tables@0.2.0", "sms/tables@0.1.0");
        assert!(
            refusal(&component(&mixed)).starts_with("mixes heliograph:sms@0.1.0 and @0.2.0"),
            "{}",
            refusal(&component(&mixed))
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
            let hooks = inspect(&whole[..length]).map_or(0, |inspection| inspection.hooks.len());
            assert!(hooks < 2, "{length} of {} octets", whole.len());
        }
    }

    #[test]
    fn the_digest_is_of_the_bytes() {
        let bytes = component(PLUGIN);
        let other = component(&PLUGIN.replace("lookup", "look-up"));
        let digest = |bytes: &[u8]| inspect(bytes).expect("a plugin").digest;
        assert_eq!(digest(&bytes).len(), "sha256:".len() + 64);
        assert_ne!(digest(&bytes), digest(&other));
    }
}
