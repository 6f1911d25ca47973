//! `heliograph store`: looks at the files of a store whose server is not running, repairs them and hands
//! out what they hold. What is on disk is `store::salvage`'s; here it becomes text and JSON.

use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::client::Failure;
use crate::api::answer::Detail;
use crate::api::reports::{DeadView, InboundView, OptOutView, OrphanView};
use crate::app::encryption;
use crate::clock::Clock;
use crate::config::Config;
use crate::store::Seals;
use crate::store::salvage::{self, Item, Repaired, Report};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Read everything and say what is wrong; changes nothing
    ///
    /// The server must not be running. Exit code 1 where something is wrong.
    #[command(after_help = "Example:\n  heliograph store check --config heliograph.toml")]
    Check(Plain),
    /// Save what can be read, and keep the original files beside it
    ///
    /// Reads the store's files, writes all that can be read into a new database, and puts that in the
    /// place of the old one, which stays in a folder `damaged-TIME` of the same directory. Queues and
    /// counts are made anew from the messages. The server must not be running.
    #[command(after_help = "Example:\n  heliograph store repair --path data")]
    Repair(Plain),
    /// Write messages, mobile-originated messages, receipts, opt-outs and what is owed as JSON lines
    ///
    /// Works on damaged stores too: what cannot be read is a line of the type `unreadable`. The server
    /// must not be running; of a running one, export a copy.
    #[command(after_help = "Example:\n  heliograph store export --path data --out messages.jsonl")]
    Export(Export),
}

#[derive(Debug, clap::Args)]
pub struct Place {
    /// The store's directory
    #[arg(
        long,
        value_name = "DIRECTORY",
        required_unless_present = "config",
        conflicts_with = "config"
    )]
    pub path: Option<PathBuf>,
    /// The configuration that names it, and its keys where it is encrypted
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Plain {
    #[command(flatten)]
    pub place: Place,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    pub place: Place,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Say as JSON how much was written to the file; the lines themselves always are JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Check(args) => check(&args),
        Command::Repair(args) => {
            let name = format!("damaged-{}", Clock::system().now().millis());
            let (directory, seals) = args.place.store()?;
            let repaired = salvage::repair(&directory, &name, seals.as_ref()).map_err(failed)?;
            match args.json {
                true => println!("{:#}", repaired_json(&repaired)),
                false => print!("{}", repaired_text(&repaired)),
            }
            Ok(())
        }
        Command::Export(args) => export(&args),
    }
}

impl Place {
    /// Where it is, and what opens it.
    fn store(&self) -> Result<(PathBuf, Option<Seals>), Failure> {
        let (directory, seals) = match (&self.path, &self.config) {
            (Some(path), _) => (path.clone(), None),
            (None, Some(file)) => {
                let config = Config::load(file, std::env::vars()).map_err(failed)?;
                let base = file.parent().map(PathBuf::from).unwrap_or_default();
                let seals = encryption::seals(&config.store.encryption, &base).map_err(failed)?;
                (base.join(&config.store.path), seals)
            }
            (None, None) => return Err(Failure::Usage("give --path or --config".to_owned())),
        };
        match directory.join("manifest").exists() || directory.join("sled").exists() {
            true => Ok((directory, seals)),
            false => {
                let place = directory.display();
                Err(Failure::Failed(format!(
                    "{place} holds no store: there is neither a manifest nor sled in it"
                )))
            }
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

fn check(args: &Plain) -> Result<(), Failure> {
    let (directory, seals) = args.place.store()?;
    let report = salvage::check(&directory, seals.as_ref()).map_err(failed)?;
    match args.json {
        true => println!("{:#}", report_json(&report)),
        false => print!("{}", report_text(&report)),
    }
    match report.is_sound() {
        true => Ok(()),
        false => Err(Failure::Failed(format!(
            "{} damaged places, {} problems; `heliograph store repair` saves what can be read",
            report.damage.len(),
            report.problems.len()
        ))),
    }
}

fn report_text(report: &Report) -> String {
    let mut out = String::new();
    let closed = match report.closed_in_order {
        true => "closed in good order",
        false => "not closed in good order",
    };
    let _ = writeln!(
        out,
        "commit {}, {closed}, {} MiB: {} messages ({} not in their last state), {} mobile-originated",
        report.sequence,
        report.octets >> 20,
        report.messages,
        report.live_messages,
        report.inbound
    );
    for (name, n) in &report.entries {
        let _ = writeln!(out, "{n:>10} {name}");
    }
    for damage in &report.damage {
        let _ = writeln!(
            out,
            "damaged: {} at octet {}: {}",
            damage.file, damage.offset, damage.what
        );
    }
    for problem in &report.problems {
        let _ = writeln!(out, "problem: {problem}");
    }
    if report.is_closed {
        out.push_str(
            "the store is sealed: its files were read, not what is in them (--config names the keys)\n",
        );
    } else if report.is_sound() {
        out.push_str("everything can be read\n");
    }
    out
}

fn report_json(report: &Report) -> Value {
    let damage = report
        .damage
        .iter()
        .map(|d| json!({ "file": d.file, "offset": d.offset, "what": d.what }));
    json!({
        "sound": report.is_sound(),
        "sealed": report.is_sealed,
        "contents_read": !report.is_closed,
        "sequence": report.sequence,
        "manifest_sequence": report.manifest_sequence,
        "closed_in_order": report.closed_in_order,
        "octets": report.octets,
        "messages": report.messages,
        "live_messages": report.live_messages,
        "inbound": report.inbound,
        "entries": report.entries,
        "unreadable": report.unreadable,
        "damage": damage.collect::<Vec<_>>(),
        "problems": report.problems,
    })
}

fn repaired_text(repaired: &Repaired) -> String {
    let mut out = format!(
        "saved {} messages, {} mobile-originated, {} other entries; {} messages are in their queues again\n",
        repaired.messages, repaired.inbound, repaired.entries, repaired.requeued
    );
    for (n, what) in [
        (
            repaired.unreadable,
            "records and entries that cannot be read",
        ),
        (
            repaired.unreadable_pages,
            "pages that cannot be read; what they held is not known",
        ),
        (repaired.missing_commits, "commits at the end are gone"),
        (
            repaired.missing_live,
            "messages that were not in their last state are gone",
        ),
    ] {
        if n > 0 {
            let _ = writeln!(out, "not saved: {n} {what}");
        }
    }
    let _ = writeln!(
        out,
        "the original files are in {}",
        repaired.originals.display()
    );
    out
}

fn repaired_json(repaired: &Repaired) -> Value {
    json!({
        "originals": repaired.originals.display().to_string(),
        "messages": repaired.messages,
        "inbound": repaired.inbound,
        "entries": repaired.entries,
        "requeued": repaired.requeued,
        "unreadable": repaired.unreadable,
        "unreadable_pages": repaired.unreadable_pages,
        "missing_commits": repaired.missing_commits,
        "missing_live": repaired.missing_live,
    })
}

fn export(args: &Export) -> Result<(), Failure> {
    let (directory, seals) = args.place.store()?;
    let out: Box<dyn Write> = match &args.out {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => {
            let mut options = std::fs::OpenOptions::new();
            // Texts and numbers are in it.
            let file = options.write(true).create_new(true).mode(0o600).open(path);
            Box::new(file.map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))?)
        }
    };
    let mut out = BufWriter::new(out);
    let mut lines = 0u64;
    let written = salvage::export(&directory, seals.as_ref(), |item| {
        lines += 1;
        serde_json::to_writer(&mut out, &line(&item))?;
        out.write_all(b"\n")
    });
    written
        .map_err(failed)?
        .and_then(|()| out.flush())
        .map_err(failed)?;
    match &args.out {
        None => {}
        Some(file) if args.json => println!("{}", json!({ "file": file, "lines": lines })),
        Some(file) => println!("{lines} lines in {}", file.display()),
    }
    Ok(())
}

/// One line: its type, and what the API says of such a thing.
fn line(item: &Item) -> Value {
    let (kind, data) = match item {
        Item::Message(message) => {
            let policy_sets_are_not_read = |_: &_| Vec::new();
            (
                "message",
                json!(Detail::of(message, &policy_sets_are_not_read)),
            )
        }
        Item::Inbound(record) => ("inbound", json!(InboundView::of(record))),
        Item::Receipt(orphan) => ("receipt", json!(OrphanView::of((**orphan).clone()))),
        Item::OptOut(entry) => ("opt_out", json!(OptOutView::of(entry))),
        Item::Owed(entry) => ("owed", json!(DeadView::of(entry))),
        Item::Unreadable(id, why) => {
            let id = id.map(|id| id.to_string());
            ("unreadable", json!({ "id": id, "why": why }))
        }
    };
    json!({ "type": kind, "data": data })
}
