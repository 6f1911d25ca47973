//! Finds a cargo that can build for wasm32: an installed target, rustup, Debian's packages, apt. It knows their
//! commands and what of the environment must not reach them; what is built with it is `crates.rs`.

use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The target of choice: its standard library imports nothing.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// Its standard library imports WASI, which is empty for a plugin: a little larger, and as good.
pub const WASI_TARGET: &str = "wasm32-wasip2";
/// The cargo profile that plugins are built with.
pub const PROFILE: &str = "plugin";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
const RUSTUP_TIMEOUT: Duration = Duration::from_secs(120);
const APT_TIMEOUT: Duration = Duration::from_secs(600);

/// A cargo that can build for [`TARGET`].
#[derive(Clone, Debug, PartialEq)]
pub enum Toolchain {
    /// The cargo on PATH, whose sysroot holds the standard library of [`TARGET`].
    Installed,
    /// The same, where it holds that of [`WASI_TARGET`] alone.
    InstalledWasi,
    /// Debian's cargo and rustc, which build the standard library from source; `linker` is its wasm-ld.
    Debian { linker: PathBuf },
}

#[derive(Debug)]
pub enum ToolchainError {
    /// No way to build for wasm32 on this machine; holds what was tried.
    NotFound(Vec<String>),
    /// A program could not be started.
    Start { program: String, reason: String },
    /// cargo refused, and has said why on stderr.
    Build {
        packages: Vec<String>,
        offline: bool,
    },
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
            Self::Build { packages, offline } => {
                write!(
                    out,
                    "cargo could not build {}: its messages are above",
                    packages.join(", ")
                )?;
                match offline {
                    true => out.write_str(
                        " (--offline builds with what was fetched before: run it once without)",
                    ),
                    false => Ok(()),
                }
            }
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
    if let Some(toolchain) = installed(target_installed) {
        return Ok(toolchain);
    }
    tried.push(format!(
        "the rustc on PATH has neither the {TARGET} nor the {WASI_TARGET} target"
    ));
    if offline {
        tried.push("not tried with --offline: rustup target add, apt-get install".to_owned());
    } else {
        match add_rustup_target() {
            Ok(()) if target_installed(TARGET) => return Ok(Toolchain::Installed),
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
            Self::Installed | Self::InstalledWasi => {
                format!("the installed {} target", self.target())
            }
            Self::Debian { linker } => format!(
                "Debian's rustc with its standard library's source, {}",
                linker.display()
            ),
        }
    }

    /// What it builds for.
    pub fn target(&self) -> &'static str {
        match self {
            Self::Installed | Self::Debian { .. } => TARGET,
            Self::InstalledWasi => WASI_TARGET,
        }
    }

    /// cargo with an environment that is this toolchain's alone.
    pub fn cargo(&self) -> Command {
        let program = match self {
            Self::Installed | Self::InstalledWasi => "cargo",
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
            Self::Installed | Self::InstalledWasi => flags,
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

/// What is there already goes before what would have to be fetched.
fn installed(has: impl Fn(&str) -> bool) -> Option<Toolchain> {
    if has(TARGET) {
        Some(Toolchain::Installed)
    } else if has(WASI_TARGET) {
        Some(Toolchain::InstalledWasi)
    } else {
        None
    }
}

fn target_installed(target: &str) -> bool {
    let mut rustc = Command::new("rustc");
    let Ok(output) = rustc
        .args(["--print", "target-libdir", "--target", target])
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
    fn an_installed_wasi_target_is_used_where_the_other_is_not_there() {
        let with = |targets: &'static [&str]| installed(|target| targets.contains(&target));
        assert_eq!(with(&[TARGET, WASI_TARGET]), Some(Toolchain::Installed));
        assert_eq!(with(&[WASI_TARGET]), Some(Toolchain::InstalledWasi));
        assert_eq!(with(&[]), None);
        assert_eq!(Toolchain::InstalledWasi.target(), "wasm32-wasip2");
        assert_eq!(debian_toolchain().target(), "wasm32-unknown-unknown");
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
    fn an_error_holds_the_commands_to_run() {
        let text = ToolchainError::NotFound(vec!["nothing there".to_owned()]).to_string();
        assert!(text.contains("rustup target add wasm32-unknown-unknown"));
        assert!(text.contains("apt-get install -y rustc-web cargo-web rust-web-src lld-19"));
    }
}
