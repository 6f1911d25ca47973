//! `heliograph plugin push` and `pull`: components travel as Wasm OCI artifacts, in a registry or in an
//! OCI image layout (a folder). What an artifact is stands in `artifact`; where it is kept, in `layout`
//! and `registry`. Nothing is taken whose digest is not the one that was asked for.

mod artifact;
mod layout;
mod reference;
mod registry;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::plugin::{PluginError, read_component, replace_file};
use crate::pipeline::signatures::{beside, file_of};
use artifact::{Artifact, Fetched};
use layout::Layout;
use reference::{Place, Reference};
use registry::Registry;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  heliograph plugin push target/plugins/no-links.wasm registry.example/acme/no-links:1.0.0\n  heliograph plugin push target/plugins/no-links.wasm oci:plugins.oci:no-links-1.0.0"
)]
pub struct Push {
    /// The component; the signatures in FILE.sig go with it
    pub file: PathBuf,
    /// HOST/NAME:TAG of a registry, or oci:FOLDER:TAG
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Speak HTTP without TLS, to this machine alone
    #[arg(long)]
    pub plain_http: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  heliograph plugin pull registry.example/acme/no-links:1.0.0 --out no-links.wasm"
)]
pub struct Pull {
    /// HOST/NAME:TAG or HOST/NAME@sha256:... of a registry, or oci:FOLDER:TAG or oci:FOLDER@sha256:...
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Where the component goes; its signatures go to FILE.sig
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The digest that the component must have, as `plugin inspect` prints it
    #[arg(long, value_name = "sha256:...")]
    pub digest: Option<String>,
    /// Speak HTTP without TLS, to this machine alone
    #[arg(long)]
    pub plain_http: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Puts a component there and prints the reference that can never mean another.
pub async fn push(args: &Push, out: &mut dyn Write) -> Result<(), PluginError> {
    let reference = Reference::parse(&args.reference, args.plain_http)?;
    let bytes = read_component(&args.file)?;
    let shown = super::component::inspect(&bytes).map_err(|reason| PluginError::NotAPlugin {
        path: args.file.clone(),
        reason,
    })?;
    let signatures = beside(&args.file).map_err(PluginError::Failed)?;
    let artifact = Artifact::of(bytes, &shown, &signatures);
    if let Some(wanted) = &reference.digest
        && *wanted != artifact.manifest.digest
    {
        let why = format!("the artifact is {}", artifact.manifest.digest);
        return Err(failed(&args.reference, why));
    }
    let digest = artifact.manifest.digest.clone();
    match &reference.place {
        Place::Layout(folder) => Layout::new(folder).push(&artifact, reference.tag.as_deref()),
        Place::Registry { name, plain_http } => {
            let registry = Registry::new(name, *plain_http)?;
            registry.push(artifact, reference.tag.clone()).await
        }
    }?;
    let pinned = reference.pinned(&digest);
    let made = json!({
        "reference": pinned, "tag": reference.tag, "digest": digest,
        "component": shown.digest, "signatures": signatures.iter().count(),
    });
    let signed = match signatures.iter().count() {
        0 => "unsigned".to_owned(),
        n => format!("with {n} signature{}", if n == 1 { "" } else { "s" }),
    };
    let written = match args.json {
        true => writeln!(out, "{made}"),
        false => writeln!(out, "{pinned}\n  component {}, {signed}", shown.digest),
    };
    written.map_err(PluginError::Output)
}

/// Fetches a component, checks every digest on the way, then writes it and its signatures.
pub async fn pull(args: &Pull, out: &mut dyn Write) -> Result<(), PluginError> {
    let reference = Reference::parse(&args.reference, args.plain_http)?;
    let fetched = match &reference.place {
        Place::Layout(folder) => Layout::new(folder).pull(&reference),
        Place::Registry { name, plain_http } => {
            let registry = Registry::new(name, *plain_http)?;
            registry.pull(&reference).await
        }
    }?;
    let Fetched {
        digest,
        component,
        bytes,
        signatures,
    } = fetched;
    if let Some(wanted) = &args.digest
        && wanted != component.as_ref()
    {
        let why = format!(
            "{}: the component is {component}, not {wanted}",
            args.reference
        );
        return Err(PluginError::Failed(why));
    }
    let sidecar = file_of(&args.out);
    // In this order a watcher never sees a new component without its signatures for long; what it
    // sees in between is refused as a wrong signature, and seen again.
    if signatures.is_empty() {
        match std::fs::remove_file(&sidecar) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(PluginError::Io {
                    path: sidecar,
                    reason: error,
                });
            }
            Ok(()) | Err(_) => {}
        }
    } else {
        replace_file(&sidecar, signatures.text().as_bytes())?;
    }
    replace_file(&args.out, &bytes)?;
    let pinned = reference.pinned(&digest);
    let keys: Vec<String> = signatures.iter().map(|s| s.key().to_string()).collect();
    let made = json!({
        "file": args.out, "reference": pinned, "digest": digest, "component": component, "keys": keys,
    });
    let signed = match keys.is_empty() {
        true => "unsigned".to_owned(),
        false => format!("signed by {}, not checked", keys.join(", ")),
    };
    let written = match args.json {
        true => writeln!(out, "{made}"),
        false => writeln!(
            out,
            "{}: {component}, {signed}\n  from {pinned}",
            args.out.display()
        ),
    };
    written.map_err(PluginError::Output)
}

fn failed(what: &str, why: impl std::fmt::Display) -> PluginError {
    PluginError::Failed(format!("{what}: {why}"))
}
