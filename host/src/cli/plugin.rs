//! `heliograph plugin new` and `build`: from an empty folder to a component an operator can deploy. A
//! component is only read here, never run: what it says of itself is shown by `plugin inspect`.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::client::Failure;
use super::component::{self, Hook, Inspection};
use super::toolchain::{self, Toolchain, ToolchainError};
use super::{crates, scaffold};
use crate::plugin::ComponentLimits;

/// A larger file is not read. Plugins take some hundred kilobytes, those with an interpreter in them 20 MiB.
pub const MAX_COMPONENT_BYTES: u64 = (ComponentLimits::MIB_CEILING as u64) << 20;

#[derive(Args, Debug)]
#[command(after_help = "Example: heliograph plugin new no-links --hook content-filter")]
pub struct New {
    /// Lower-case letters, digits and hyphens, as in `no-links`.
    pub name: String,
    /// What the plugin is to do.
    #[arg(long, value_enum)]
    pub hook: Hook,
    /// The folder to make; ./NAME unless given.
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Example: heliograph plugin build plugins --out target/plugins")]
pub struct Build {
    /// A plugin's crate, a workspace, or a folder of crates.
    #[arg(value_name = "PATH", default_value = ".")]
    pub paths: Vec<PathBuf>,
    /// Where the components go; `target/plugins` of their workspace unless given.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Fetch and install nothing.
    #[arg(long)]
    pub offline: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug)]
pub enum PluginError {
    /// Somebody asked for what cannot be.
    Usage(String),
    Io {
        path: PathBuf,
        reason: std::io::Error,
    },
    /// The file is no plugin; whoever made it has to mend it.
    NotAPlugin {
        path: PathBuf,
        reason: String,
    },
    /// It was not done, or a check did not pass.
    Failed(String),
    Toolchain(ToolchainError),
    /// The reader of the output has gone.
    Output(std::io::Error),
}

impl fmt::Display for PluginError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(reason) | Self::Failed(reason) => out.write_str(reason),
            Self::Io { path, reason } => write!(out, "{}: {reason}", path.display()),
            Self::NotAPlugin { path, reason } => write!(out, "{}: {reason}", path.display()),
            Self::Toolchain(error) => error.fmt(out),
            Self::Output(reason) => write!(out, "standard output: {reason}"),
        }
    }
}

impl std::error::Error for PluginError {}

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Failure {
        match error {
            PluginError::Usage(why) => Failure::Usage(why),
            PluginError::Io { .. }
            | PluginError::NotAPlugin { .. }
            | PluginError::Failed(_)
            | PluginError::Toolchain(_)
            | PluginError::Output(_) => Failure::Failed(error.to_string()),
        }
    }
}

impl From<ToolchainError> for PluginError {
    fn from(error: ToolchainError) -> Self {
        Self::Toolchain(error)
    }
}

/// Writes a crate that builds, with tests, cases and a README.
pub fn new(args: &New, out: &mut dyn Write) -> Result<(), PluginError> {
    scaffold::check_name(&args.name)?;
    let directory = args
        .path
        .clone()
        .unwrap_or_else(|| PathBuf::from(&args.name));
    let member = scaffold::in_checkout_plugins(&directory);
    let files = scaffold::scaffold(&args.name, args.hook, member);
    scaffold::write_crate(&directory, &files)?;
    if args.json {
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        writeln!(out,
            "{}",
            serde_json::json!({"name": args.name, "hook": args.hook, "path": directory, "files": names})
        ).map_err(PluginError::Output)?;
    } else {
        writeln!(out, "made {} ({})", directory.display(), args.hook.name())
            .map_err(PluginError::Output)?;
        writeln!(
            out,
            "next: cd {} && cargo test && heliograph plugin test",
            directory.display()
        )
        .map_err(PluginError::Output)?;
    }
    Ok(())
}

/// A component that was just built, inspected and written.
pub struct Built {
    pub name: String,
    /// Of its crate.
    pub directory: PathBuf,
    pub file: PathBuf,
    pub bytes: Vec<u8>,
    pub inspection: Inspection,
}

/// Builds the crates that `paths` name and writes their components, to `out` where it is given.
pub fn built(
    toolchain: &Toolchain,
    paths: &[PathBuf],
    out: Option<&Path>,
    offline: bool,
) -> Result<Vec<Built>, PluginError> {
    eprintln!("building with {}", toolchain.describe());
    let crates = crates::find(toolchain, paths)?;
    let mut built = Vec::new();
    for made in crates::build(toolchain, &crates, offline)? {
        let folder = out.unwrap_or(&made.directory);
        let file = folder.join(format!("{}.wasm", made.name));
        let inspection =
            component::inspect(&made.bytes).map_err(|reason| PluginError::NotAPlugin {
                path: PathBuf::from(&made.name),
                reason: format!(
                    "{reason}\nDoes {} end with `heliograph_plugin::export!(YourType: ContentFilter);`, with the hooks that it serves?",
                    made.source.join("src/lib.rs").display()
                ),
            })?;
        replace_file(&file, &made.bytes)?;
        built.push(Built {
            name: made.name,
            directory: made.source,
            file,
            bytes: made.bytes,
            inspection,
        });
    }
    Ok(built)
}

/// Builds plugins into components.
pub fn build(args: &Build, out: &mut dyn Write) -> Result<(), PluginError> {
    let toolchain = toolchain::find(args.offline)?;
    let built = built(&toolchain, &args.paths, args.out.as_deref(), args.offline)?;
    if args.json {
        let plugins: Vec<_> = built
            .iter()
            .map(|b| serde_json::json!({"name": b.name, "file": b.file, "component": b.inspection}))
            .collect();
        writeln!(out, "{}", serde_json::json!({ "plugins": plugins }))
            .map_err(PluginError::Output)?;
    } else {
        for b in &built {
            writeln!(
                out,
                "{}  {} KiB  {}",
                b.file.display(),
                b.inspection.size.div_ceil(1024),
                b.inspection.summary()
            )
            .map_err(PluginError::Output)?;
        }
    }
    Ok(())
}

pub fn read_component(path: &Path) -> Result<Vec<u8>, PluginError> {
    let io = |reason| PluginError::Io {
        path: path.to_owned(),
        reason,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(MAX_COMPONENT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_COMPONENT_BYTES {
        let reason = format!(
            "larger than {} MiB, the most a plugin may have",
            MAX_COMPONENT_BYTES / 1024 / 1024
        );
        return Err(PluginError::NotAPlugin {
            path: path.to_owned(),
            reason,
        });
    }
    Ok(bytes)
}

/// Whoever watches the file sees the old component or the new one, never half of it.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), PluginError> {
    let io = |reason| PluginError::Io {
        path: path.to_owned(),
        reason,
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(io)?;
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    std::fs::write(&partial, bytes).map_err(io)?;
    std::fs::rename(&partial, path).map_err(io)
}
