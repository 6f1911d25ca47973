//! Turns plugin crates into components: finds a wasm32 standard library, runs one `cargo build` for all crates of
//! a workspace, and wraps the core modules with wit-component. It knows cargo, rustup and Debian's packages;
//! it does not know what a plugin may do, and it runs nothing that it built.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// The target of every plugin. wasm32-wasip2 is no substitute: its standard library imports `wasi:*`, which
/// no policy set can grant.
pub const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "plugin";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
const RUSTUP_TIMEOUT: Duration = Duration::from_secs(120);
const APT_TIMEOUT: Duration = Duration::from_secs(600);

/// A cargo that can build for [`TARGET`].
#[derive(Clone, Debug, PartialEq)]
pub enum Toolchain {
    /// The cargo on PATH, whose sysroot holds the target's standard library.
    Installed,
    /// Debian's cargo and rustc, which build the standard library from source; `linker` is its wasm-ld.
    Debian { linker: PathBuf },
}

/// A crate to build, as cargo describes it.
#[derive(Clone, Debug)]
pub struct Crate {
    pub name: String,
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
}

#[derive(Debug)]
pub enum ToolchainError {
    /// No way to build for wasm32 on this machine; holds what was tried.
    NotFound(Vec<String>),
    /// A program could not be started.
    Start { program: String, reason: String },
    /// cargo refused, and has said why on stderr.
    Build { packages: Vec<String> },
    /// The path is no plugin crate.
    NotAPlugin { path: PathBuf, reason: String },
    /// The core module does not fit the plugin contract.
    Encode { name: String, reason: String },
}

impl fmt::Display for ToolchainError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(tried) => {
                writeln!(
                    out,
                    "no Rust standard library for {TARGET} on this machine:"
                )?;
                for line in tried {
                    writeln!(out, "  - {line}")?;
                }
                write!(
                    out,
                    "Run one of these, then try again:\n  rustup target add {TARGET}\n  apt-get update && apt-get install -y {}",
                    DEBIAN_PACKAGES.join(" ")
                )
            }
            Self::Start { program, reason } => write!(out, "cannot run {program}: {reason}"),
            Self::Build { packages } => write!(
                out,
                "cargo could not build {} (its messages are above; a crate outside this repository needs a \
                 [profile.{PROFILE}], see the manifest that `heliograph plugin new` writes)",
                packages.join(", ")
            ),
            Self::NotAPlugin { path, reason } => {
                write!(out, "{} is no plugin crate: {reason}", path.display())
            }
            Self::Encode { name, reason } => {
                write!(
                    out,
                    "{name} does not make a component: {reason} (does it call heliograph_plugin::export! once?)"
                )
            }
        }
    }
}

impl std::error::Error for ToolchainError {}

/// Finds a toolchain, installing one where that needs no question: an installed target, `rustup target add`,
/// Debian's packages, `apt-get install` of them as root. `offline` leaves out the steps that fetch something.
pub fn find(offline: bool) -> Result<Toolchain, ToolchainError> {
    let mut tried = Vec::new();
    if target_installed() {
        return Ok(Toolchain::Installed);
    }
    tried.push(format!("the rustc on PATH has no {TARGET} target"));
    if offline {
        tried.push("not tried with --offline: rustup target add, apt-get install".to_owned());
    } else {
        match add_rustup_target() {
            Ok(()) if target_installed() => return Ok(Toolchain::Installed),
            Ok(()) => tried.push(
                "rustup added the target to another toolchain than the one on PATH".to_owned(),
            ),
            Err(reason) => tried.push(format!("rustup target add {TARGET}: {reason}")),
        }
    }
    match debian() {
        Ok(toolchain) => return Ok(toolchain),
        Err(missing) => tried.push(format!("Debian's toolchain: {missing}")),
    }
    if !offline {
        match install_debian_packages() {
            Ok(()) => match debian() {
                Ok(toolchain) => return Ok(toolchain),
                Err(missing) => tried.push(format!("after apt-get install: {missing}")),
            },
            Err(reason) => tried.push(format!(
                "apt-get install {}: {reason}",
                DEBIAN_PACKAGES.join(" ")
            )),
        }
    }
    Err(ToolchainError::NotFound(tried))
}

impl Toolchain {
    /// For a person.
    pub fn describe(&self) -> String {
        match self {
            Self::Installed => format!("the installed {TARGET} target"),
            Self::Debian { linker } => format!(
                "Debian's rustc with its standard library's source, {}",
                linker.display()
            ),
        }
    }

    /// cargo with an environment that is this toolchain's alone.
    fn cargo(&self) -> Command {
        let program = match self {
            Self::Installed => "cargo",
            Self::Debian { .. } => "/usr/bin/cargo",
        };
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| self.must_not_leak(name)) {
                command.env_remove(name);
            }
        }
        if let Self::Debian { linker } = self {
            command
                .env("PATH", debian_path())
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        command
    }

    /// Flags meant for the host's own build break a wasm build, and whatever `cargo run` or a rustup proxy
    /// set for its own toolchain (LD_LIBRARY_PATH too) breaks Debian's.
    fn must_not_leak(&self, name: &str) -> bool {
        let flags = name == "RUSTFLAGS"
            || name == "CARGO_ENCODED_RUSTFLAGS"
            || name.starts_with("CARGO_BUILD_")
            || name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_UNSTABLE_")
            || (name.starts_with("CARGO_TARGET_") && name != "CARGO_TARGET_DIR");
        match self {
            Self::Installed => flags,
            Self::Debian { .. } => {
                flags
                    || name.starts_with("RUSTUP_")
                    || name.starts_with("RUSTC")
                    || matches!(
                        name,
                        "CARGO"
                            | "RUSTDOC"
                            | "RUSTDOCFLAGS"
                            | "RUST_RECURSION_COUNT"
                            | "LD_LIBRARY_PATH"
                    )
            }
        }
    }
}

/// The plugin crates that `paths` name: a crate's directory, a workspace (all its plugins), or a directory of crates.
pub fn crates(toolchain: &Toolchain, paths: &[PathBuf]) -> Result<Vec<Crate>, ToolchainError> {
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
            });
        }
    }
    Ok(components)
}

/// Wraps a core module that carries its world in custom sections, and validates the result.
pub fn componentize(name: &str, core: &[u8]) -> Result<Vec<u8>, ToolchainError> {
    // `{:#}`: the chain of causes, in one line.
    let refused = |reason: String| ToolchainError::Encode {
        name: name.to_owned(),
        reason,
    };
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder
        .module(core)
        .map_err(|error| refused(format!("{error:#}")))?;
    encoder
        .validate(true)
        .encode()
        .map_err(|error| refused(format!("{error:#}")))
}

fn cargo_build<'a>(
    toolchain: &Toolchain,
    workspace: &Path,
    members: &[&'a Crate],
    offline: bool,
) -> Result<Vec<(&'a Crate, PathBuf)>, ToolchainError> {
    let mut command = toolchain.cargo();
    // A target folder of its own, so that the host's build does not wait for the plugins' and the reverse.
    command
        .current_dir(workspace)
        .args(["build", "--profile", PROFILE, "--target", TARGET]);
    command
        .arg("--target-dir")
        .arg(members[0].target_directory.join("wasm"));
    command.arg("--message-format=json-render-diagnostics");
    for member in members {
        command.args(["-p", &member.id]);
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
            }),
        })
        .collect()
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

fn target_installed() -> bool {
    let mut rustc = Command::new("rustc");
    let Ok(output) = rustc
        .args(["--print", "target-libdir", "--target", TARGET])
        .stdin(Stdio::null())
        .output()
    else {
        return false;
    };
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success() && has_file_named(&folder, "libstd-", ".rlib")
}

fn add_rustup_target() -> Result<(), String> {
    run_quietly(
        Command::new("rustup").args(["target", "add", TARGET]),
        RUSTUP_TIMEOUT,
    )
}

/// Debian's toolchain where it is complete, else what is missing.
fn debian() -> Result<Toolchain, String> {
    let source = Path::new("/usr/lib/rustlib/src/rust/library/std/Cargo.toml");
    for needed in [
        Path::new("/usr/bin/cargo"),
        Path::new("/usr/bin/rustc"),
        source,
    ] {
        if !needed.exists() {
            return Err(format!("{} is not there", needed.display()));
        }
    }
    let linkers = std::fs::read_dir("/usr/bin").map_err(|error| error.to_string())?;
    let newest = linkers
        .flatten()
        .filter_map(|entry| {
            linker_version(entry.file_name().to_str()?).map(|version| (version, entry.path()))
        })
        .max();
    match newest {
        Some((_, linker)) => Ok(Toolchain::Debian { linker }),
        None => Err("no wasm-ld in /usr/bin".to_owned()),
    }
}

/// `wasm-ld-19` is 19; a plain `wasm-ld` counts least.
fn linker_version(file: &str) -> Option<u32> {
    match file.strip_prefix("wasm-ld")? {
        "" => Some(0),
        version => version.strip_prefix('-')?.parse().ok(),
    }
}

fn install_debian_packages() -> Result<(), String> {
    if !Path::new("/etc/debian_version").exists() || !Path::new("/usr/bin/apt-get").exists() {
        return Err("this is no Debian".to_owned());
    }
    let id = Command::new("id")
        .arg("-u")
        .output()
        .map_err(|error| error.to_string())?;
    if id.stdout.trim_ascii() != b"0" {
        return Err("needs root".to_owned());
    }
    eprintln!("installing {} with apt-get", DEBIAN_PACKAGES.join(" "));
    run_quietly(Command::new("apt-get").args(["-q", "update"]), APT_TIMEOUT)?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args([
        "-q",
        "-y",
        "--no-install-recommends",
        "install",
    ]);
    run_quietly(install.args(DEBIAN_PACKAGES), APT_TIMEOUT)
}

/// Runs a program without its output; the error is the last line it wrote to stderr.
fn run_quietly(command: &mut Command, timeout: Duration) -> Result<(), String> {
    let started = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let stderr = child.stderr.take();
    // Read beside the wait: a full pipe would stop the child for ever.
    let last_line = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text)
            .trim()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()
    });
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let line = last_line.join().unwrap_or_default();
                return Err(if line.is_empty() {
                    status.to_string()
                } else {
                    line
                });
            }
            None if started.elapsed() > timeout => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no end after {} s", timeout.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn debian_path() -> OsString {
    let mut path = OsString::from("/usr/bin:/bin");
    if let Some(inherited) = std::env::var_os("PATH") {
        path.push(":");
        path.push(inherited);
    }
    path
}

fn has_file_named(folder: &Path, start: &str, end: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| {
        entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(start) && name.ends_with(end))
    })
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

    fn debian_toolchain() -> Toolchain {
        Toolchain::Debian {
            linker: PathBuf::from("/usr/bin/wasm-ld-19"),
        }
    }

    #[test]
    fn what_cargo_run_sets_does_not_reach_debians_cargo() {
        for name in [
            "RUSTUP_TOOLCHAIN",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "CARGO",
            "LD_LIBRARY_PATH",
            "CARGO_BUILD_TARGET",
        ] {
            assert!(debian_toolchain().must_not_leak(name), "{name}");
        }
    }

    #[test]
    fn where_cargo_keeps_its_things_stays() {
        for name in [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_HTTP_CAINFO",
            "PATH",
            "HOME",
        ] {
            assert!(!debian_toolchain().must_not_leak(name), "{name}");
            assert!(!Toolchain::Installed.must_not_leak(name), "{name}");
        }
    }

    #[test]
    fn an_installed_toolchain_keeps_rustups_choice_but_not_the_hosts_flags() {
        assert!(!Toolchain::Installed.must_not_leak("RUSTUP_TOOLCHAIN"));
        assert!(Toolchain::Installed.must_not_leak("RUSTFLAGS"));
    }

    #[test]
    fn the_newest_linker_wins() {
        assert!(linker_version("wasm-ld-19") > linker_version("wasm-ld-9"));
        assert!(linker_version("wasm-ld") < linker_version("wasm-ld-14"));
        assert_eq!(linker_version("wasm-ldd"), None);
    }

    #[test]
    fn a_program_that_hangs_is_ended_and_named_so() {
        let error = run_quietly(Command::new("sleep").arg("60"), Duration::ZERO);
        assert_eq!(error, Err("no end after 0 s".to_owned()));
    }

    #[test]
    fn the_last_line_of_a_failed_program_is_its_reason() {
        let error = run_quietly(
            Command::new("sh").args(["-c", "echo first >&2; echo second >&2; exit 3"]),
            RUSTUP_TIMEOUT,
        );
        assert_eq!(error, Err("second".to_owned()));
    }

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
    fn an_error_holds_the_commands_to_run() {
        let text = ToolchainError::NotFound(vec!["nothing there".to_owned()]).to_string();
        assert!(text.contains("rustup target add wasm32-unknown-unknown"));
        assert!(text.contains("apt-get install -y rustc-web cargo-web rust-web-src lld-19"));
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
