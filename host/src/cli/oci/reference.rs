//! What a REF means: a folder or a registry, and which artifact in it. Reads no folder and opens no
//! connection. How names, tags and digests are written is known to oci-spec; what a folder is, here.

use std::net::IpAddr;
use std::path::PathBuf;

use oci_client::Reference as Name;
use oci_spec::image::{Digest, DigestAlgorithm};

use crate::cli::plugin::PluginError;

/// One artifact, by a tag or by its manifest's digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub place: Place,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An OCI image layout.
    Layout(PathBuf),
    /// Host and repository; the tag and the digest are the reference's own.
    Registry { name: Name, plain_http: bool },
}

impl Reference {
    pub fn parse(text: &str, plain_http: bool) -> Result<Reference, PluginError> {
        let usage = |why: &str| PluginError::Usage(format!("{text:?} {why}"));
        let folder = text.strip_prefix("oci:");
        let (name, rest) = split(folder.unwrap_or(text));
        let host = name.split_once('/').map(|(host, _)| host);
        let whole = match folder {
            Some(_) if plain_http => {
                return Err(usage("is a folder; --plain-http is for registries"));
            }
            Some(_) if name.is_empty() => return Err(usage("names no folder")),
            // A folder may have any name; its tag and digest are written as a registry's.
            Some(_) => format!("localhost/folder{rest}"),
            None if host.is_some_and(|h| h == "localhost" || h.contains(['.', ':'])) => {
                text.to_owned()
            }
            // The parser would take Docker's registry for it.
            None => {
                return Err(usage(
                    "is neither HOST/NAME:TAG of a registry nor oci:FOLDER:TAG",
                ));
            }
        };
        let parsed: Name = whole
            .parse()
            .map_err(|e| usage(&format!("is no reference: {e}")))?;
        let digest = parsed.digest().map(|digest| {
            sha256(digest).ok_or_else(|| {
                usage("has no sha256: and 64 lower-case hexadecimal digits behind its @")
            })
        });
        let digest = digest.transpose()?;
        // The parser says "latest" where nothing stands.
        let tag = parsed.tag().filter(|_| rest.starts_with(':'));
        let tag = tag.map(str::to_owned);
        let place = match folder {
            Some(_) => Place::Layout(PathBuf::from(name)),
            None if plain_http && !is_this_machine(parsed.registry()) => {
                return Err(usage(
                    "is not on this machine; --plain-http is for loopback addresses alone",
                ));
            }
            None => Place::Registry {
                name: parsed,
                plain_http,
            },
        };
        Ok(Reference { place, tag, digest })
    }

    /// The reference that means this manifest and no other.
    pub fn pinned(&self, digest: &Digest) -> String {
        match &self.place {
            Place::Layout(folder) => format!("oci:{}@{digest}", folder.display()),
            Place::Registry { name, .. } => name.clone_with_digest(digest.to_string()).to_string(),
        }
    }
}

/// A name, and the tag and digest behind it. A colon in the last step of a path begins a tag; one
/// before it is a port's.
fn split(text: &str) -> (&str, &str) {
    let end = text.find('@').unwrap_or(text.len());
    let last = text[..end].rfind('/').map_or(0, |slash| slash + 1);
    let end = text[last..end].find(':').map_or(end, |colon| last + colon);
    text.split_at(end)
}

/// `sha256:` and 64 lower-case hexadecimal digits: nothing that could lead out of a folder.
fn sha256(text: &str) -> Option<Digest> {
    let digest: Option<Digest> = text.parse().ok();
    digest.filter(|d| *d.algorithm() == DigestAlgorithm::Sha256)
}

/// Of a host and perhaps a port.
pub fn is_this_machine(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reference, String> {
        Reference::parse(text, false).map_err(|e| e.to_string())
    }

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn folders_and_registries_are_told_apart() {
        let layout = parse("oci:some/plugins.oci:no-links-1.0").unwrap();
        assert_eq!(layout.place, Place::Layout("some/plugins.oci".into()));
        assert_eq!(layout.tag.as_deref(), Some("no-links-1.0"));
        let pinned = parse(&format!("oci:plugins@{DIGEST}")).unwrap();
        let digest = pinned.digest.clone().unwrap();
        assert_eq!(digest.as_ref(), DIGEST);
        assert_eq!(pinned.pinned(&digest), format!("oci:plugins@{DIGEST}"));
        let registry = parse("registry.example:5000/acme/no-links:1.0.0").unwrap();
        let Place::Registry { name, .. } = &registry.place else {
            panic!("a folder")
        };
        assert_eq!(
            (name.registry(), name.repository()),
            ("registry.example:5000", "acme/no-links")
        );
        assert_eq!(registry.tag.as_deref(), Some("1.0.0"));
        let whole = format!("registry.example:5000/acme/no-links@{DIGEST}");
        assert_eq!(registry.pinned(&digest), whole);
    }

    #[test]
    fn where_no_tag_stands_there_is_none() {
        for text in ["registry.example/a", "oci:x"] {
            let bare = parse(text).unwrap();
            assert_eq!((bare.tag, bare.digest), (None, None), "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "",
            "no-links",
            "acme/no-links",
            "no.links:1",
            "oci:",
            "oci::1",
            "oci:x:",
            "oci:x:a b",
            "oci:x:a/b@sha256:00",
            "registry.example/Acme/x",
            "registry.example/../x",
            "registry.example/a//b",
            "registry.example/a:",
            "registry.example/a:b c",
            "registry.example/a@sha512:00",
            "regi stry.example/a",
            &format!(
                "registry.example/a@{}",
                DIGEST.replace("sha256:e", "sha256:E")
            ),
            &format!("registry.example/a@sha512:{0}{0}", &DIGEST[7..]),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000"] {
            assert!(
                Reference::parse(&format!("{host}/a:1"), true).is_ok(),
                "{host}"
            );
        }
        for host in [
            "registry.example",
            "10.0.0.1:5000",
            "localhost.example",
            "127.0.0.1.example",
        ] {
            assert!(
                Reference::parse(&format!("{host}/a:1"), true).is_err(),
                "{host}"
            );
        }
    }
}
