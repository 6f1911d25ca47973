//! `fail = "previous"`: which version is the one before, where a policy does not say. It is taken from
//! the policy in force and written into the new one, so that what is kept of a policy is complete and
//! can be built again whatever was in force in between.

use sha2::{Digest, Sha256};

use super::load::digest_text;
use super::spec::{Fail, PluginSpec, PolicySpec, PreviousSpec, Source, parse_digest};
use super::spec_check::Resolver;

/// Fills in what `spec` leaves open. `in_force` names components by digest. Reads components, so it
/// is called on a thread that may block; what cannot be read is left for the checks to complain of.
pub fn fill_previous(spec: &mut PolicySpec, in_force: &PolicySpec, resolver: &dyn Resolver) {
    for plugin in &mut spec.plugins {
        if plugin.fail != Some(Fail::Previous) || plugin.previous.is_some() {
            continue;
        }
        let before = in_force.plugins.iter().find(|p| p.name == plugin.name);
        if let Some(before) = before
            && let Some(digest) = digest_of(plugin, resolver)
        {
            plugin.previous = previous_of(before, &digest);
        }
    }
}

fn digest_of(plugin: &PluginSpec, resolver: &dyn Resolver) -> Option<String> {
    match (&plugin.digest, &plugin.path) {
        (Some(digest), None) => {
            parse_digest(digest)?;
            Some(digest.to_ascii_lowercase())
        }
        (None, Some(path)) => {
            let bytes = resolver.component(&Source::Path(path.clone())).ok()?;
            let digest: [u8; 32] = Sha256::digest(&bytes).into();
            Some(digest_text(&digest))
        }
        (Some(_), Some(_)) | (None, None) => None,
    }
}

fn previous_of(before: &PluginSpec, digest: &str) -> Option<PreviousSpec> {
    let known = before.digest.as_deref()?;
    // The same version once more: what stood behind it still does.
    if known.eq_ignore_ascii_case(digest) {
        return before.previous.clone();
    }
    Some(PreviousSpec {
        path: None,
        digest: Some(known.to_owned()),
        config: Some(before.config.clone()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Files;

    impl Resolver for Files {
        fn component(&self, source: &Source) -> Result<Vec<u8>, String> {
            match source {
                Source::Path(path) => Ok(path.as_bytes().to_vec()),
                Source::Digest(_) => Err("not asked".into()),
            }
        }

        fn table(&self, _: &Source) -> Result<Vec<u8>, String> {
            Err("not asked".into())
        }

        fn secret(&self, _: &str) -> Result<String, String> {
            Err("not asked".into())
        }
    }

    fn digest(of: &str) -> String {
        let digest: [u8; 32] = Sha256::digest(of).into();
        digest_text(&digest)
    }

    fn policy(lines: &str) -> PolicySpec {
        let toml = format!("[[plugin]]\nname = \"words\"\nfail = \"previous\"\n{lines}");
        PolicySpec::from_toml(&toml).unwrap()
    }

    fn pinned(of: &str) -> PolicySpec {
        policy(&format!(
            "digest = \"{}\"\nconfig = {{ a = 1 }}",
            digest(of)
        ))
    }

    #[test]
    fn the_version_in_force_becomes_the_one_before() {
        let mut new = policy("path = \"two.wasm\"");
        fill_previous(&mut new, &pinned("one.wasm"), &Files);
        let previous = new.plugins[0].previous.clone().unwrap();
        assert_eq!(previous.digest, Some(digest("one.wasm")));
        assert_eq!(previous.config, Some(json!({ "a": 1 })));
    }

    #[test]
    fn the_same_version_keeps_what_stood_behind_it() {
        let mut second = pinned("two.wasm");
        fill_previous(&mut second, &pinned("one.wasm"), &Files);
        let mut again = policy("path = \"two.wasm\"\nconfig = { a = 2 }");
        fill_previous(&mut again, &second, &Files);
        assert_eq!(again.plugins[0].previous, second.plugins[0].previous);
    }

    #[test]
    fn what_is_told_stays_and_what_is_unknown_stays_open() {
        let told = format!(
            "path = \"two.wasm\"\nprevious = {{ digest = \"{}\" }}",
            digest("x")
        );
        let mut new = policy(&told);
        fill_previous(&mut new, &pinned("one.wasm"), &Files);
        assert_eq!(new, policy(&told));

        let mut first = policy("path = \"one.wasm\"");
        fill_previous(&mut first, &PolicySpec::default(), &Files);
        assert_eq!(first.plugins[0].previous, None);
    }
}
