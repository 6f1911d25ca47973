//! `heliograph audit`: what administrators did, and whether the log of it is whole.

use std::path::PathBuf;

use serde_json::Value;

use super::client::{Client, Failure, Target, query};
use super::send::{print, text};
use crate::store::verify_audit;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List administrative acts, newest first
    #[command(after_help = "Example:\n  heliograph audit list --limit 20")]
    List(List),
    /// Follow a log from its first line to its last, and say the first that does not fit
    #[command(
        after_help = "A log that was cut short at its end is sound as far as it goes: compare the hash with one that you wrote down.\n\nExample:\n  heliograph audit verify data/audit.jsonl"
    )]
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
pub struct List {
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// Go on from there
    #[arg(long)]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, clap::Args)]
pub struct Verify {
    /// `audit.jsonl` of the store's folder, or a copy
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The hash that the last entry had when it was written down
    #[arg(long, value_name = "HASH")]
    pub head: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(list) => {
            let pairs = [
                ("limit", Some(list.limit.to_string())),
                ("cursor", list.cursor),
            ];
            let path = format!("/v1/audit{}", query(&pairs));
            let page = Client::new(&list.target)?.get(&path).await?;
            print(&page, list.target.json, page_text);
        }
        Command::Verify(verify) => {
            let sound = verify_audit(&verify.file).map_err(|e| Failure::Failed(e.to_string()))?;
            if let Some(head) = verify.head.filter(|head| *head != sound.hash) {
                return Err(Failure::Failed(format!(
                    "the last of {} entries has the hash {}, not {head}: entries are missing, or came after it",
                    sound.entries, sound.hash
                )));
            }
            let found = serde_json::to_value(&sound).unwrap_or_default();
            print(&found, verify.json, |found| {
                format!(
                    "{} entries, all sound; hash {}",
                    found["entries"],
                    text(found, "hash")
                )
            });
        }
    }
    Ok(())
}

fn page_text(page: &Value) -> String {
    let mut lines: Vec<String> = page["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(line)
        .collect();
    if let Some(cursor) = page["next_cursor"].as_str() {
        lines.push(format!("more: --cursor {cursor}"));
    }
    lines.join("\n")
}

fn line(entry: &Value) -> String {
    let part = |name: &str| text(entry, name);
    format!(
        "{:>6}  {}  {:<18} {:<10} {}  {}  {}",
        entry["sequence"],
        part("at"),
        part("action"),
        part("outcome"),
        part("by"),
        part("subject"),
        part("detail")
    )
    .trim_end()
    .to_owned()
}
