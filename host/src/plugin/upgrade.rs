//! What a new version of a plugin wants more than the version in force: the difference that an
//! operator must see before granting it. Compares names alone, and grants nothing.

use std::fmt;

use serde::Serialize;

/// One build of a plugin and the capabilities it imports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Build {
    pub version: String,
    pub digest: String,
    pub imports: Vec<&'static str>,
}

/// An entry whose component is another than the one in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Upgrade {
    /// The entry's name in the policy.
    pub entry: String,
    /// What is in force.
    pub from: Build,
    /// What the refused policy names.
    pub to: Build,
    /// Imports of `to` that `from` has not.
    pub wants_more: Vec<&'static str>,
    /// What the refused policy grants; logging is always granted.
    pub granted: Vec<&'static str>,
    /// Imports of `to` that are not granted.
    pub not_granted: Vec<&'static str>,
}

impl Upgrade {
    /// None where both are the same component.
    pub(super) fn of(
        entry: &str,
        from: Build,
        to: Build,
        granted: Vec<&'static str>,
    ) -> Option<Upgrade> {
        let without = |others: &[&'static str]| -> Vec<&'static str> {
            let imports = to.imports.iter().copied();
            imports.filter(|name| !others.contains(name)).collect()
        };
        let (wants_more, not_granted) = (without(&from.imports), without(&granted));
        (from.digest != to.digest).then(|| Upgrade {
            entry: entry.to_owned(),
            wants_more,
            not_granted,
            from,
            to,
            granted,
        })
    }
}

impl fmt::Display for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Upgrade { from, to, .. } = self;
        write!(
            f,
            "In force is {} {}, which imports {}; {} {} wants in addition {}; granted are {}",
            from.version,
            short(&from.digest),
            list(&from.imports),
            to.version,
            short(&to.digest),
            list(&self.wants_more),
            list(&self.granted)
        )
    }
}

fn list(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        some => some.join(", "),
    }
}

/// Enough of a digest for a person to tell two builds apart.
fn short(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(version: &str, digest: &str, imports: &[&'static str]) -> Build {
        Build {
            version: version.to_owned(),
            digest: digest.to_owned(),
            imports: imports.to_vec(),
        }
    }

    #[test]
    fn what_is_new_and_what_is_not_granted_are_told_apart() {
        let from = build("1.0.0", "sha256:aa", &["logging", "state"]);
        let to = build(
            "2.0.0",
            "sha256:bb",
            &["http", "logging", "state", "tables"],
        );
        let granted = vec!["logging", "tables"];
        let upgrade = Upgrade::of("words", from, to, granted).unwrap();
        assert_eq!(upgrade.wants_more, ["http", "tables"]);
        assert_eq!(upgrade.not_granted, ["http", "state"]);
        let told = upgrade.to_string();
        for part in [
            "1.0.0 sha256:aa",
            "logging, state",
            "2.0.0 sha256:bb",
            "http, tables",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn the_same_component_is_no_upgrade() {
        let one = build("1.0.0", "sha256:aa", &["http"]);
        assert_eq!(Upgrade::of("words", one.clone(), one, Vec::new()), None);
    }
}
