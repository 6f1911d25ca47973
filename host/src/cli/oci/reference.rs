//! What a REF means: a folder or a registry, and which artifact in it. Reads no folder and opens no
//! connection.

use std::net::IpAddr;
use std::path::PathBuf;

use super::artifact::is_digest;
use crate::cli::plugin::PluginError;

/// One artifact, by a tag or by its manifest's digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub place: Place,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An OCI image layout.
    Layout(PathBuf),
    Registry {
        /// Name and port.
        host: String,
        repository: String,
        plain_http: bool,
    },
}

impl Reference {
    pub fn parse(text: &str, plain_http: bool) -> Result<Reference, PluginError> {
        let usage = |why: &str| PluginError::Usage(format!("{text:?} {why}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => {
                return Err(usage(
                    "has no sha256: and 64 hexadecimal digits behind its @",
                ));
            }
            None => (text, None),
        };
        if let Some(folder) = rest.strip_prefix("oci:") {
            if plain_http {
                return Err(usage("is a folder; --plain-http is for registries"));
            }
            let (folder, tag) = tag_of(folder);
            if folder.is_empty() {
                return Err(usage("names no folder"));
            }
            checked_tag(tag).map_err(|why| usage(&why))?;
            return Ok(Reference {
                place: Place::Layout(PathBuf::from(folder)),
                tag: tag.map(str::to_owned),
                digest,
            });
        }
        let (name, tag) = tag_of(rest);
        checked_tag(tag).map_err(|why| usage(&why))?;
        let rule = "is neither HOST/NAME:TAG of a registry nor oci:FOLDER:TAG";
        let (host, repository) = name.split_once('/').ok_or_else(|| usage(rule))?;
        if !is_host(host) || !is_repository(repository) {
            return Err(usage(rule));
        }
        if plain_http && !is_this_machine(host) {
            return Err(usage(
                "is not on this machine; --plain-http is for loopback addresses alone",
            ));
        }
        Ok(Reference {
            place: Place::Registry {
                host: host.to_owned(),
                repository: repository.to_owned(),
                plain_http,
            },
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The reference that means this manifest and no other.
    pub fn pinned(&self, digest: &str) -> String {
        match &self.place {
            Place::Layout(folder) => format!("oci:{}@{digest}", folder.display()),
            Place::Registry {
                host, repository, ..
            } => format!("{host}/{repository}@{digest}"),
        }
    }
}

/// A colon in the last step of a path begins a tag; one before it is a port's.
fn tag_of(text: &str) -> (&str, Option<&str>) {
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[last..].find(':') {
        Some(colon) => (&text[..last + colon], Some(&text[last + colon + 1..])),
        None => (text, None),
    }
}

/// distribution-spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn checked_tag(tag: Option<&str>) -> Result<(), String> {
    let good = |tag: &str| {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        (1..=128).contains(&tag.len())
            && tag.bytes().take(1).all(word)
            && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
    };
    match tag {
        Some(tag) if !good(tag) => {
            Err("has a tag that is not 1 to 128 letters, digits and . _ -".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

fn is_host(host: &str) -> bool {
    let known = host == "localhost" || host.contains(['.', ':']);
    known
        && host.len() <= 255
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b))
}

fn is_repository(name: &str) -> bool {
    let step = |step: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(step.bytes().next())
            && edge(step.bytes().last())
            && step
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    name.len() <= 255 && name.split('/').all(step)
}

pub fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
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
        assert_eq!(pinned.digest.as_deref(), Some(DIGEST));
        assert_eq!(pinned.pinned(DIGEST), format!("oci:plugins@{DIGEST}"));
        let registry = parse("registry.example:5000/acme/no-links:1.0.0").unwrap();
        let Place::Registry {
            host, repository, ..
        } = &registry.place
        else {
            panic!("a folder")
        };
        assert_eq!(
            (&**host, &**repository),
            ("registry.example:5000", "acme/no-links")
        );
        assert_eq!(registry.tag.as_deref(), Some("1.0.0"));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "",
            "no-links",
            "acme/no-links",
            "oci:",
            "oci::1",
            "oci:x:a/b@sha256:00",
            "registry.example/Acme/x",
            "registry.example/../x",
            "registry.example/a//b",
            "registry.example/a:",
            "registry.example/a:b c",
            "registry.example/a@sha512:00",
            "regi stry.example/a",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
        ] {
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
