//! A component as an OCI artifact, in the format of the CNCF's Wasm working group: a manifest, a config
//! that tells imports and exports, one layer that is the component; our signatures are an annotation of
//! the manifest. The same file and signatures make the same digests everywhere, at any time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::failed;
use crate::cli::component::{Inspection, PACKAGE};
use crate::cli::plugin::{MAX_COMPONENT_BYTES, PluginError};
use crate::plugin::{SIGNATURE_FILE_BYTES_MAX, Signatures, digest_text};

pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const LAYER_TYPE: &str = "application/wasm";
/// Holds what FILE.sig holds.
pub const SIGNATURES: &str = "org.heliograph.plugin.signatures";
/// What a manifest may have.
pub const MANIFEST_BYTES_MAX: usize = 256 << 10;

/// What is pushed: three blobs.
pub struct Artifact {
    /// Of the manifest.
    pub digest: String,
    pub manifest: Vec<u8>,
    pub config: Blob,
    pub layer: Blob,
}

pub struct Blob {
    pub digest: String,
    pub bytes: Vec<u8>,
}

/// What was pulled: every digest on the way was right.
pub struct Fetched {
    /// Of the manifest.
    pub digest: String,
    /// Of the component.
    pub component: String,
    pub bytes: Vec<u8>,
    pub signatures: Signatures,
}

/// A reference to a blob (image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What else it says is kept.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// image-spec, manifest.md.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Artifact {
    pub fn of(bytes: Vec<u8>, shown: &Inspection, signatures: &Signatures) -> Artifact {
        let layer = Blob::of(bytes);
        let named = |interface: &str| format!("{PACKAGE}/{interface}@{}", shown.wit_version);
        let exports = shown.hooks.iter().map(|hook| hook.name());
        let exports: Vec<String> = std::iter::once("plugin")
            .chain(exports)
            .map(named)
            .collect();
        let imports = shown.imports.keys().map(|name| named(name));
        let imports: Vec<String> = imports
            .chain(shown.unknown_imports.iter().cloned())
            .collect();
        let config = json!({
            // The format wants a time. This one makes the digest a function of the component alone.
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [layer.digest],
            "component": { "exports": exports, "imports": imports },
        });
        let config = Blob::of(config.to_string().into_bytes());
        let mut annotations = BTreeMap::new();
        if !signatures.is_empty() {
            annotations.insert(SIGNATURES.to_owned(), signatures.text());
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            config: config.descriptor(CONFIG_TYPE),
            layers: vec![layer.descriptor(LAYER_TYPE)],
            annotations,
        };
        let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
        Artifact {
            digest: digest_of(&manifest),
            manifest,
            config,
            layer,
        }
    }

    /// As an index lists it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: MANIFEST_TYPE.to_owned(),
            digest: self.digest.clone(),
            size: self.manifest.len() as u64,
            annotations: BTreeMap::new(),
            more: BTreeMap::new(),
        }
    }
}

impl Blob {
    fn of(bytes: Vec<u8>) -> Blob {
        Blob {
            digest: digest_of(&bytes),
            bytes,
        }
    }

    fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: self.digest.clone(),
            size: self.bytes.len() as u64,
            annotations: BTreeMap::new(),
            more: BTreeMap::new(),
        }
    }
}

/// The component's layer and the signatures, out of a manifest whose digest was checked.
pub fn read_manifest(from: &str, manifest: &[u8]) -> Result<(Descriptor, Signatures), PluginError> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|e| failed(from, format!("its manifest cannot be read: {e}")))?;
    if manifest.config.media_type != CONFIG_TYPE {
        let why = format!(
            "is no Wasm artifact: its config is {:?}, not {CONFIG_TYPE}",
            shortened(&manifest.config.media_type)
        );
        return Err(failed(from, why));
    }
    let [layer] = manifest.layers.as_slice() else {
        let count = manifest.layers.len();
        let why = format!("has {count} layers; a Wasm artifact has one");
        return Err(failed(from, why));
    };
    if layer.media_type != LAYER_TYPE {
        let kind = shortened(&layer.media_type);
        return Err(failed(
            from,
            format!("its layer is {kind:?}, not {LAYER_TYPE}"),
        ));
    }
    if !is_digest(&layer.digest) {
        let digest = shortened(&layer.digest);
        return Err(failed(from, format!("its layer's digest is {digest:?}")));
    }
    if layer.size > MAX_COMPONENT_BYTES {
        let why = format!(
            "its component has {} bytes; {MAX_COMPONENT_BYTES} are the most",
            layer.size
        );
        return Err(failed(from, why));
    }
    let text = manifest.annotations.get(SIGNATURES);
    let text = text.map(String::as_str).unwrap_or_default();
    if text.len() > SIGNATURE_FILE_BYTES_MAX {
        return Err(failed(from, "its signatures are too many"));
    }
    let signatures =
        Signatures::parse(text).map_err(|e| failed(from, format!("its signatures: {e}")))?;
    Ok((layer.clone(), signatures))
}

/// Whether these are the bytes that a descriptor means.
pub fn same(from: &str, wanted: &str, bytes: &[u8]) -> Result<(), PluginError> {
    let found = digest_of(bytes);
    match found == wanted {
        true => Ok(()),
        false => Err(failed(
            from,
            format!("{wanted} was asked for, and {found} is there: it was changed or damaged"),
        )),
    }
}

pub fn digest_of(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes).into())
}

/// `sha256:` and 64 lower-case hexadecimal digits: nothing that could lead out of a folder.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
