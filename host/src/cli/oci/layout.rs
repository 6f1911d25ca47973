//! An OCI image layout (image-spec, image-layout.md): `oci-layout`, `index.json` and `blobs/sha256/`.
//! Other tools may share the folder: what the index says of their artifacts stays as it is.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use oci_spec::image::{
    ANNOTATION_REF_NAME as TAG, Descriptor, Digest, ImageIndex, ImageIndexBuilder, MediaType,
    OciLayout, OciLayoutBuilder, SCHEMA_VERSION,
};

use super::artifact::{self, Artifact, Fetched, MANIFEST_BYTES_MAX};
use super::failed;
use super::reference::Reference;
use crate::cli::plugin::{MAX_COMPONENT_BYTES, PluginError, replace_file};

const VERSION: &str = "1.0.0";
const MARKER_BYTES_MAX: usize = 4 << 10;
const INDEX_BYTES_MAX: usize = 4 << 20;

pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    pub fn new(folder: &Path) -> Layout {
        Layout {
            folder: folder.to_owned(),
        }
    }

    /// Blobs first, the index last: a push that is cut off changed nothing that can be seen.
    pub fn push(&self, artifact: &Artifact, tag: Option<&str>) -> Result<(), PluginError> {
        let marker = self.folder.join("oci-layout");
        let index_file = self.folder.join("index.json");
        let mut index = match marker.exists() {
            true => self.index()?,
            false if self.holds_something() => {
                return Err(failed(
                    &self.name(),
                    "is a folder with other contents, not an OCI layout",
                ));
            }
            false => ImageIndexBuilder::default()
                .schema_version(SCHEMA_VERSION)
                .media_type(MediaType::ImageIndex)
                .manifests([])
                .build()
                .map_err(|e| failed(&self.name(), e))?,
        };
        for blob in [&artifact.layer, &artifact.config, &artifact.manifest] {
            replace_file(&self.blob(&blob.digest), &blob.bytes)?;
        }
        let mut descriptor = artifact.descriptor();
        if let Some(tag) = tag {
            let tag = (TAG.to_owned(), tag.to_owned());
            descriptor.set_annotations(Some(HashMap::from([tag])));
        }
        let mut manifests = index.manifests().clone();
        manifests.retain(|d| {
            let same_tag = tag.is_some() && tag_of(d) == tag;
            let same_untagged = *d.digest() == artifact.manifest.digest && tag_of(d).is_none();
            !(same_tag || same_untagged)
        });
        manifests.push(descriptor);
        index.set_manifests(manifests);
        let bytes = serde_json::to_vec(&index).map_err(|e| failed(&self.name(), e))?;
        replace_file(&index_file, &bytes)?;
        if !marker.exists() {
            let version = OciLayoutBuilder::default().image_layout_version(VERSION);
            let version = version.build().and_then(|version| version.to_string());
            let version = version.map_err(|e| failed(&self.name(), e))?;
            replace_file(&marker, version.as_bytes())?;
        }
        Ok(())
    }

    pub fn pull(&self, reference: &Reference) -> Result<Fetched, PluginError> {
        let index = self.index()?;
        let entry = self.entry(&index, reference)?;
        if *entry.media_type() != MediaType::ImageManifest {
            let kind: String = entry.media_type().as_ref().chars().take(80).collect();
            return Err(failed(
                &self.name(),
                format!("is {kind:?}, no single artifact"),
            ));
        }
        let manifest = self.read(entry.digest(), MANIFEST_BYTES_MAX)?;
        let (layer, signatures) = artifact::read_manifest(&self.name(), &manifest)?;
        let max = usize::try_from(MAX_COMPONENT_BYTES).unwrap_or(usize::MAX);
        let bytes = self.read(layer.digest(), max)?;
        Ok(Fetched {
            digest: entry.digest().clone(),
            component: layer.digest().clone(),
            bytes,
            signatures,
        })
    }

    /// By digest, by tag, or the only one there is.
    fn entry<'a>(
        &self,
        index: &'a ImageIndex,
        reference: &Reference,
    ) -> Result<&'a Descriptor, PluginError> {
        let matches = |d: &&Descriptor| match (&reference.digest, reference.tag.as_deref()) {
            (Some(digest), _) => d.digest() == digest,
            (None, Some(tag)) => tag_of(d) == Some(tag),
            (None, None) => true,
        };
        let mut found: Vec<&Descriptor> = index.manifests().iter().filter(matches).collect();
        found.dedup_by(|a, b| a.digest() == b.digest());
        match found[..] {
            [one] if one.as_digest_sha256().is_some() => Ok(one),
            [_] => Err(failed(&self.name(), "its digest is not of SHA-256")),
            [] => Err(failed(&self.name(), "has no such artifact")),
            [_, _, ..] => {
                let tags = index.manifests().iter().filter_map(tag_of);
                let tags: Vec<&str> = tags.take(20).collect();
                let why = format!("holds several artifacts; name one: {}", tags.join(", "));
                Err(failed(&self.name(), why))
            }
        }
    }

    fn index(&self) -> Result<ImageIndex, PluginError> {
        let marker = self.folder.join("oci-layout");
        let marker =
            read_limited(&marker, MARKER_BYTES_MAX).map_err(|e| failed(&self.name(), e))?;
        let marker: Option<OciLayout> = serde_json::from_slice(&marker).ok();
        if marker.is_none_or(|layout| layout.image_layout_version() != VERSION) {
            let why = format!("is no OCI layout of version {VERSION}");
            return Err(failed(&self.name(), why));
        }
        let index = read_limited(&self.folder.join("index.json"), INDEX_BYTES_MAX)
            .map_err(|e| failed(&self.name(), e))?;
        serde_json::from_slice(&index)
            .map_err(|e| failed(&self.name(), format!("its index.json: {e}")))
    }

    /// The blob of this digest, or an error: what is stored under it is hashed again.
    fn read(&self, digest: &Digest, max: usize) -> Result<Vec<u8>, PluginError> {
        let bytes = read_limited(&self.blob(digest), max)
            .map_err(|e| failed(&self.name(), format!("{digest}: {e}")))?;
        artifact::same(&self.name(), digest, &bytes)?;
        Ok(bytes)
    }

    /// A digest's characters lead nowhere else, whoever wrote it.
    fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.digest())
    }

    fn holds_something(&self) -> bool {
        std::fs::read_dir(&self.folder).is_ok_and(|mut entries| entries.next().is_some())
    }

    fn name(&self) -> String {
        self.folder.display().to_string()
    }
}

fn tag_of(descriptor: &Descriptor) -> Option<&str> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(TAG).map(String::as_str)
}

fn read_limited(path: &Path, max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(max as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > max {
        let why = format!("more than {max} octets");
        return Err(std::io::Error::other(why));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::component;
    use crate::plugin::{SecretKey, Signatures};

    fn artifact(more: &str, signed: bool) -> (Vec<u8>, Artifact, Signatures) {
        let text = format!(
            r#"(component (instance) (export "heliograph:sms/plugin@0.1.0" (instance 0))
                (export "heliograph:sms/content-filter@0.1.0" (instance 0)) {more})"#
        );
        let bytes = wat::parse_str(text).unwrap();
        let shown = component::inspect(&bytes).unwrap();
        let mut signatures = Signatures::default();
        if signed {
            let key = SecretKey::new([1; 32], "ops").unwrap();
            signatures.add(key.sign(&bytes)).unwrap();
        }
        let artifact = Artifact::of(bytes.clone(), &shown, &signatures);
        (bytes, artifact, signatures)
    }

    fn reference(folder: &Path, rest: &str) -> Reference {
        Reference::parse(&format!("oci:{}{rest}", folder.display()), false).unwrap()
    }

    #[test]
    fn what_is_pushed_is_pulled_by_its_tag_by_its_digest_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let (bytes, made, signatures) = artifact("", true);
        layout.push(&made, Some("1.0.0")).unwrap();
        for rest in [
            String::new(),
            ":1.0.0".to_owned(),
            format!("@{}", made.manifest.digest),
        ] {
            let fetched = layout.pull(&reference(folder.path(), &rest)).unwrap();
            assert_eq!(fetched.bytes, bytes, "{rest}");
            assert_eq!(fetched.digest, made.manifest.digest);
            assert_eq!(fetched.component, artifact::digest_of(&bytes));
            assert_eq!(fetched.signatures, signatures);
        }
        let none = layout.pull(&reference(folder.path(), ":2.0.0"));
        assert!(none.is_err_and(|e| e.to_string().contains("no such artifact")));
    }

    #[test]
    fn the_format_is_that_of_the_wasm_working_group() {
        let (bytes, made, signatures) = artifact("", true);
        let manifest: Value = serde_json::from_slice(&made.manifest.bytes).unwrap();
        let config: Value = serde_json::from_slice(&made.config.bytes).unwrap();
        assert_eq!(
            manifest["mediaType"],
            "application/vnd.oci.image.manifest.v1+json"
        );
        assert_eq!(
            manifest["config"]["mediaType"],
            "application/vnd.wasm.config.v0+json"
        );
        assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
        assert_eq!(manifest["layers"][0]["size"], bytes.len());
        assert_eq!(
            manifest["annotations"][artifact::SIGNATURES],
            signatures.text()
        );
        assert_eq!(config["architecture"], "wasm");
        assert_eq!(config["os"], "wasip2");
        assert_eq!(config["layerDigests"][0], manifest["layers"][0]["digest"]);
        assert_eq!(
            config["component"]["exports"],
            json!([
                "heliograph:sms/plugin@0.1.0",
                "heliograph:sms/content-filter@0.1.0"
            ])
        );
    }

    #[test]
    fn a_tag_moves_and_other_artifacts_stay() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let (_, first, _) = artifact("", false);
        let (second_bytes, second, _) = artifact("(core module)", false);
        layout.push(&first, Some("new")).unwrap();
        layout.push(&first, Some("old")).unwrap();
        layout.push(&second, Some("new")).unwrap();
        let pulled = |rest: &str| layout.pull(&reference(folder.path(), rest));
        assert_eq!(pulled(":new").unwrap().bytes, second_bytes);
        assert_eq!(pulled(":old").unwrap().digest, first.manifest.digest);
        let why = pulled("").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(why.contains("old, new"), "{why}");
    }

    #[test]
    fn a_changed_blob_is_refused_wherever_it_is() {
        let (_, made, _) = artifact("", true);
        for blob in [&made.manifest.digest, &made.layer.digest] {
            let folder = tempfile::tempdir().unwrap();
            let layout = Layout::new(folder.path());
            layout.push(&made, Some("1")).unwrap();
            let file = layout.blob(blob);
            let mut bytes = std::fs::read(&file).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(&file, bytes).unwrap();
            let why = layout.pull(&reference(folder.path(), ":1")).err();
            let why = why.map(|e| e.to_string()).unwrap_or_default();
            assert!(why.contains("changed or damaged"), "{blob}: {why}");
        }
    }

    #[test]
    fn a_digest_that_leads_out_of_the_folder_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let (_, made, _) = artifact("", false);
        layout.push(&made, Some("1")).unwrap();
        let index = folder.path().join("index.json");
        let text = std::fs::read_to_string(&index).unwrap();
        std::fs::write(
            &index,
            text.replace(made.manifest.digest.as_ref(), "sha256:../../../secret"),
        )
        .unwrap();
        let why = layout.pull(&reference(folder.path(), ":1")).err();
        assert!(why.is_some_and(|e| e.to_string().contains("index.json")));
    }

    #[test]
    fn what_is_no_layout_is_neither_read_nor_written() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let layout = Layout::new(folder.path());
        let (_, made, _) = artifact("", false);
        assert!(layout.push(&made, Some("1")).is_err());
        assert!(layout.pull(&reference(folder.path(), ":1")).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
