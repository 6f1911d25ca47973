//! A component as an OCI artifact, in the format of the CNCF's Wasm working group: a manifest, a config
//! that tells imports and exports, one layer that is the component; our signatures are an annotation of
//! the manifest. The same file and signatures make the same digests everywhere, at any time.

use std::collections::HashMap;

use bytes::Bytes;
use oci_spec::image::{
    Descriptor, Digest, ImageManifest, ImageManifestBuilder, MediaType, SCHEMA_VERSION,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::failed;
use crate::cli::component::{Inspection, PACKAGE};
use crate::cli::plugin::{MAX_COMPONENT_BYTES, PluginError};
use crate::plugin::{SIGNATURE_FILE_BYTES_MAX, Signatures, digest_text};

const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const LAYER_TYPE: &str = "application/wasm";
/// Holds what FILE.sig holds.
pub const SIGNATURES: &str = "org.heliograph.plugin.signatures";
/// What a manifest may have.
pub const MANIFEST_BYTES_MAX: usize = 256 << 10;

/// What is pushed: three blobs.
#[derive(Clone)]
pub struct Artifact {
    pub manifest: Blob,
    pub config: Blob,
    pub layer: Blob,
}

#[derive(Clone)]
pub struct Blob {
    pub digest: Digest,
    pub bytes: Bytes,
}

/// What was pulled: every digest on the way was right.
pub struct Fetched {
    /// Of the manifest.
    pub digest: Digest,
    /// Of the component.
    pub component: Digest,
    pub bytes: Vec<u8>,
    pub signatures: Signatures,
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
        let mut manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config.descriptor(CONFIG_TYPE.into()))
            .layers([layer.descriptor(LAYER_TYPE.into())]);
        if !signatures.is_empty() {
            // One annotation: with more, their order would be another every time.
            let text = (SIGNATURES.to_owned(), signatures.text());
            manifest = manifest.annotations(HashMap::from([text]));
        }
        let manifest = manifest.build().ok();
        let manifest = manifest.and_then(|manifest| serde_json::to_vec(&manifest).ok());
        Artifact {
            manifest: Blob::of(manifest.expect("a manifest with all that it needs")),
            config,
            layer,
        }
    }

    /// As an index lists it.
    pub fn descriptor(&self) -> Descriptor {
        self.manifest.descriptor(MediaType::ImageManifest)
    }
}

impl Blob {
    fn of(bytes: Vec<u8>) -> Blob {
        Blob {
            digest: digest_of(&bytes),
            bytes: bytes.into(),
        }
    }

    fn descriptor(&self, media_type: MediaType) -> Descriptor {
        Descriptor::new(media_type, self.bytes.len() as u64, self.digest.clone())
    }
}

/// The component's layer and the signatures, out of a manifest whose digest was checked.
pub fn read_manifest(from: &str, manifest: &[u8]) -> Result<(Descriptor, Signatures), PluginError> {
    let manifest: ImageManifest = serde_json::from_slice(manifest)
        .map_err(|e| failed(from, format!("its manifest cannot be read: {e}")))?;
    let config = manifest.config().media_type().as_ref();
    if config != CONFIG_TYPE {
        let config = shortened(config);
        let why = format!("is no Wasm artifact: its config is {config:?}, not {CONFIG_TYPE}");
        return Err(failed(from, why));
    }
    let [layer] = manifest.layers().as_slice() else {
        let count = manifest.layers().len();
        let why = format!("has {count} layers; a Wasm artifact has one");
        return Err(failed(from, why));
    };
    let kind = layer.media_type().as_ref();
    if kind != LAYER_TYPE {
        let kind = shortened(kind);
        return Err(failed(
            from,
            format!("its layer is {kind:?}, not {LAYER_TYPE}"),
        ));
    }
    if layer.as_digest_sha256().is_none() {
        let digest = shortened(layer.digest().as_ref());
        return Err(failed(from, format!("its layer's digest is {digest:?}")));
    }
    if layer.size() > MAX_COMPONENT_BYTES {
        let why = format!(
            "its component has {} bytes; {MAX_COMPONENT_BYTES} are the most",
            layer.size()
        );
        return Err(failed(from, why));
    }
    let text = manifest.annotations().as_ref();
    let text = text.and_then(|all| all.get(SIGNATURES));
    let text = text.map(String::as_str).unwrap_or_default();
    if text.len() > SIGNATURE_FILE_BYTES_MAX {
        return Err(failed(from, "its signatures are too many"));
    }
    let signatures =
        Signatures::parse(text).map_err(|e| failed(from, format!("its signatures: {e}")))?;
    Ok((layer.clone(), signatures))
}

/// Whether these are the bytes that a descriptor means.
pub fn same(from: &str, wanted: &Digest, bytes: &[u8]) -> Result<(), PluginError> {
    let found = digest_of(bytes);
    match found == *wanted {
        true => Ok(()),
        false => Err(failed(from, changed(wanted, &found))),
    }
}

pub fn changed(wanted: impl std::fmt::Display, found: impl std::fmt::Display) -> String {
    format!("{wanted} was asked for, and {found} is there: it was changed or damaged")
}

pub fn digest_of(bytes: &[u8]) -> Digest {
    let text = digest_text(&Sha256::digest(bytes).into());
    text.parse().expect("64 hexadecimal digits")
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
