//! `heliograph plugin componentize`: a core module, made by any compiler, becomes a component. The world comes
//! from the module's own sections or from WIT files; `wasi_snapshot_preview1`, which C libraries of WASI import,
//! is translated to WASI 0.2 by the adapter of wasmtime. Nothing of the module is run.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::component;
use super::plugin::{PluginError, replace_file};
use crate::plugin::ComponentLimits;

#[derive(Args, Debug)]
#[command(
    after_help = "Example: heliograph plugin componentize core.wasm --wit wit --world routing-plugin --out router.wasm"
)]
pub struct Componentize {
    /// A core module that exports the functions of its world.
    pub file: PathBuf,
    /// WIT files, where the module does not carry its world: a file, or a folder with its packages in `deps`.
    #[arg(long, value_name = "PATH", requires = "world")]
    pub wit: Option<PathBuf>,
    /// The world that the module was made for.
    #[arg(long, value_name = "NAME", requires = "wit")]
    pub world: Option<String>,
    /// Where the component goes.
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Componentize, out: &mut dyn Write) -> Result<(), PluginError> {
    let refused = |reason: String| PluginError::NotAPlugin {
        path: args.file.clone(),
        reason,
    };
    let mut core = read(&args.file)?;
    if let (Some(wit), Some(world)) = (&args.wit, &args.world) {
        embed(&mut core, wit, world).map_err(refused)?;
    }
    let bytes = encode(&core).map_err(refused)?;
    let inspection = component::inspect(&bytes).map_err(refused)?;
    replace_file(&args.out, &bytes)?;
    if args.json {
        let plugin = serde_json::json!({"file": args.out, "component": inspection});
        return writeln!(out, "{plugin}").map_err(PluginError::Output);
    }
    let size = inspection.size.div_ceil(1024);
    let file = args.out.display();
    writeln!(out, "{file}  {size} KiB  {}", inspection.summary()).map_err(PluginError::Output)
}

fn read(path: &Path) -> Result<Vec<u8>, PluginError> {
    let io = |reason| PluginError::Io {
        path: path.to_owned(),
        reason,
    };
    // A component is about as large as the module in it.
    let max = u64::from(ComponentLimits::MIB_CEILING) << 20;
    if std::fs::metadata(path).map_err(io)?.len() > max {
        return Err(PluginError::NotAPlugin {
            path: path.to_owned(),
            reason: format!("larger than {} MiB", ComponentLimits::MIB_CEILING),
        });
    }
    std::fs::read(path).map_err(io)
}

/// Writes the world into the module, as generated bindings do where they come with an object file.
fn embed(core: &mut Vec<u8>, wit: &Path, world: &str) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| format!("{}: {error:#}", wit.display());
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).map_err(|e| text(&e))?;
    let world = resolve
        .select_world(&[package], Some(world))
        .map_err(|e| text(&e))?;
    embed_component_metadata(core, &resolve, world, StringEncoding::UTF8)
        .map_err(|e| format!("{e:#}"))
}

/// Wraps a core module that carries its world in custom sections, and validates the result.
pub fn encode(core: &[u8]) -> Result<Vec<u8>, String> {
    // `{:#}`: the chain of causes, in one line.
    let refused = |error| format!("{error:#}");
    let mut encoder = ComponentEncoder::default();
    encoder.module(core).map_err(refused)?;
    // It takes part only where the module imports what it translates.
    let (name, adapter) = (
        WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
        WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    );
    encoder.adapter(name, adapter).map_err(refused)?;
    encoder.validate(true).encode().map_err(refused)
}
