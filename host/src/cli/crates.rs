//! Turns plugin crates into components: one `cargo build` for all crates of a workspace, then wit-component on each
//! core module. It does not know what a plugin may do, and it runs nothing that it built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::componentize;
use super::toolchain::{PROFILE, Toolchain, ToolchainError};

/// The profile of this repository's own plugins: small, no unwinding.
const PROFILE_SETTINGS: [&str; 6] = [
    "inherits=\"release\"",
    "opt-level=3",
    "lto=\"fat\"",
    "codegen-units=1",
    "panic=\"abort\"",
    "strip=true",
];

/// A crate to build, as cargo describes it.
#[derive(Clone, Debug)]
pub struct Crate {
    pub name: String,
    /// Where its manifest is.
    pub directory: PathBuf,
    id: String,
    workspace: PathBuf,
    target_directory: PathBuf,
}

/// A component, built and validated.
#[derive(Debug)]
pub struct Component {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Where it goes unless told otherwise: `target/plugins` of its workspace.
    pub directory: PathBuf,
    /// The folder of its crate.
    pub source: PathBuf,
}

/// The plugin crates that `paths` name: a crate's directory, a workspace (all its plugins), or a directory of crates.
pub fn find(toolchain: &Toolchain, paths: &[PathBuf]) -> Result<Vec<Crate>, ToolchainError> {
    let mut workspaces: Vec<Metadata> = Vec::new();
    let mut found: BTreeMap<String, Crate> = BTreeMap::new();
    for path in paths {
        for manifest in manifests(path)? {
            let known = workspaces
                .iter()
                .position(|workspace| workspace.names(&manifest));
            let workspace = match known {
                Some(index) => &workspaces[index],
                None => {
                    workspaces.push(metadata(toolchain, &manifest)?);
                    &workspaces[workspaces.len() - 1]
                }
            };
            for item in workspace.plugins(&manifest)? {
                found.insert(item.id.clone(), item);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Builds the crates, one cargo invocation for each workspace, and makes components of them.
pub fn build(
    toolchain: &Toolchain,
    crates: &[Crate],
    offline: bool,
) -> Result<Vec<Component>, ToolchainError> {
    let mut by_workspace: BTreeMap<&Path, Vec<&Crate>> = BTreeMap::new();
    for item in crates {
        by_workspace.entry(&item.workspace).or_default().push(item);
    }
    let mut components = Vec::new();
    for (workspace, members) in by_workspace {
        for (member, file) in cargo_build(toolchain, workspace, &members, offline)? {
            let core = std::fs::read(&file).map_err(|error| ToolchainError::Start {
                program: file.display().to_string(),
                reason: error.to_string(),
            })?;
            components.push(Component {
                name: member.name.clone(),
                bytes: componentize(&member.name, &core)?,
                directory: member.target_directory.join("plugins"),
                source: member.directory.clone(),
            });
        }
    }
    Ok(components)
}

/// The component of a crate: what cargo built for wasm32-wasip2 is one already.
pub fn componentize(name: &str, built: &[u8]) -> Result<Vec<u8>, ToolchainError> {
    if wasmparser::Parser::is_component(built) {
        return Ok(built.to_vec());
    }
    componentize::encode(built).map_err(|reason| ToolchainError::Encode {
        name: name.to_owned(),
        reason,
    })
}

fn cargo_build<'a>(
    toolchain: &Toolchain,
    workspace: &Path,
    members: &[&'a Crate],
    offline: bool,
) -> Result<Vec<(&'a Crate, PathBuf)>, ToolchainError> {
    let mut command = toolchain.cargo();
    // A target folder of its own, so that the host's build does not wait for the plugins' and the reverse.
    command.current_dir(workspace).args([
        "build",
        "--profile",
        PROFILE,
        "--target",
        toolchain.target(),
    ]);
    command
        .arg("--target-dir")
        .arg(members[0].target_directory.join("wasm"));
    command.arg("--message-format=json-render-diagnostics");
    for member in members {
        command.args(["-p", &member.id]);
    }
    // A crate that `plugin new` did not write need not know of our profile.
    if !has_profile(&workspace.join("Cargo.toml")) {
        for setting in PROFILE_SETTINGS {
            command.arg("--config");
            command.arg(format!("profile.{PROFILE}.{setting}"));
        }
    }
    if offline {
        command.arg("--offline");
    }
    if matches!(toolchain, Toolchain::Debian { .. }) {
        command.arg("-Zbuild-std=std,panic_abort");
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| cannot_start(&command, &error))?;
    let packages = || members.iter().map(|member| member.name.clone()).collect();
    if !output.status.success() {
        return Err(ToolchainError::Build {
            packages: packages(),
            offline,
        });
    }
    let modules: BTreeMap<String, PathBuf> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(built_module)
        .collect();
    members
        .iter()
        .map(|member| match modules.get(&member.id) {
            Some(file) => Ok((*member, file.clone())),
            None => Err(ToolchainError::Build {
                packages: vec![member.name.clone()],
                offline,
            }),
        })
        .collect()
}

/// Whether a workspace's manifest says how plugins are built.
fn has_profile(manifest: &Path) -> bool {
    let text = std::fs::read_to_string(manifest).unwrap_or_default();
    let table = text.parse::<toml::Table>().unwrap_or_default();
    table
        .get("profile")
        .is_some_and(|profiles| profiles.get(PROFILE).is_some())
}

/// The package and the `.wasm` file of one line of cargo's messages, where it tells of one.
fn built_module(line: &str) -> Option<(String, PathBuf)> {
    #[derive(Deserialize)]
    struct Artifact {
        package_id: String,
        filenames: Vec<PathBuf>,
    }
    let artifact: Artifact = serde_json::from_str(line).ok()?;
    let file = artifact
        .filenames
        .into_iter()
        .find(|file| file.extension().is_some_and(|ending| ending == "wasm"))?;
    Some((artifact.package_id, file))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

impl Package {
    fn is_plugin(&self) -> bool {
        self.targets
            .iter()
            .any(|target| target.crate_types.iter().any(|kind| kind == "cdylib"))
    }
}

impl Metadata {
    fn names(&self, manifest: &Path) -> bool {
        self.packages
            .iter()
            .any(|package| package.manifest_path == manifest)
    }

    /// The plugin of this manifest, or every plugin where the manifest is the workspace's own.
    fn plugins(&self, manifest: &Path) -> Result<Vec<Crate>, ToolchainError> {
        let refused = |reason: &str| ToolchainError::NotAPlugin {
            path: manifest.to_owned(),
            reason: reason.to_owned(),
        };
        let as_crate = |package: &Package| Crate {
            name: package.name.clone(),
            directory: package
                .manifest_path
                .parent()
                .unwrap_or(Path::new("."))
                .to_owned(),
            id: package.id.clone(),
            workspace: self.workspace_root.clone(),
            target_directory: self.target_directory.clone(),
        };
        if let Some(package) = self
            .packages
            .iter()
            .find(|package| package.manifest_path == manifest)
        {
            return match package.is_plugin() {
                true => Ok(vec![as_crate(package)]),
                false => Err(refused("its [lib] has no crate-type \"cdylib\"")),
            };
        }
        let all: Vec<Crate> = self
            .packages
            .iter()
            .filter(|package| package.is_plugin())
            .map(as_crate)
            .collect();
        match all.is_empty() {
            true => Err(refused(
                "no crate of the workspace has the crate-type \"cdylib\"",
            )),
            false => Ok(all),
        }
    }
}

fn metadata(toolchain: &Toolchain, manifest: &Path) -> Result<Metadata, ToolchainError> {
    let mut command = toolchain.cargo();
    command
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(manifest);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_start(&command, &error))?;
    let refused = |reason: String| ToolchainError::NotAPlugin {
        path: manifest.to_owned(),
        reason,
    };
    if !output.status.success() {
        return Err(refused(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| refused(format!("cargo metadata: {error}")))
}

fn manifests(path: &Path) -> Result<Vec<PathBuf>, ToolchainError> {
    let refused = |reason: String| ToolchainError::NotAPlugin {
        path: path.to_owned(),
        reason,
    };
    let directory = path
        .canonicalize()
        .map_err(|error| refused(error.to_string()))?;
    let own = directory.join("Cargo.toml");
    if own.is_file() {
        return Ok(vec![own]);
    }
    let entries = std::fs::read_dir(&directory).map_err(|error| refused(error.to_string()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path().join("Cargo.toml"))
        .filter(|manifest| manifest.is_file())
        .collect();
    found.sort();
    match found.is_empty() {
        true => Err(refused(
            "no Cargo.toml in it, nor in its folders".to_owned(),
        )),
        false => Ok(found),
    }
}

fn cannot_start(command: &Command, error: &std::io::Error) -> ToolchainError {
    ToolchainError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_module_is_found_among_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","package_id":"path+file:///p#a@0.1.0","filenames":["/t/a.rlib","/t/a.wasm"]}"#;
        assert_eq!(
            built_module(line),
            Some((
                "path+file:///p#a@0.1.0".to_owned(),
                PathBuf::from("/t/a.wasm")
            ))
        );
        assert_eq!(
            built_module(r#"{"reason":"build-finished","success":true}"#),
            None
        );
    }

    #[test]
    fn a_manifest_without_our_profile_is_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = folder.path().join("Cargo.toml");
        assert!(!has_profile(&manifest));
        std::fs::write(&manifest, "[package]\nname = \"x\"\n").expect("written");
        assert!(!has_profile(&manifest));
        std::fs::write(&manifest, "[profile.plugin]\ninherits = \"release\"\n").expect("written");
        assert!(has_profile(&manifest));
    }

    #[test]
    fn a_folder_without_a_crate_is_refused_by_name() {
        let empty = tempfile::tempdir().expect("a folder");
        let error = manifests(empty.path()).expect_err("no crate in it");
        assert!(
            error
                .to_string()
                .contains(&empty.path().display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn bytes_that_are_no_module_are_refused_with_the_crates_name() {
        let error = componentize("my-filter", b"not wasm").expect_err("no module");
        assert!(
            error
                .to_string()
                .starts_with("my-filter does not make a component"),
            "{error}"
        );
    }
}
