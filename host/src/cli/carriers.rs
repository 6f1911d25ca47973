//! `heliograph carriers`: how each carrier does, in which form its ids come back, and which receipts
//! wait for their message. Turns the API's JSON into what a person reads; decides nothing.

use std::fmt::Write as _;

use serde_json::Value;

use super::client::{Client, Failure, Target, query};
use super::send::{print, text};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the carriers
    #[command(after_help = "Example:\n  heliograph carriers list")]
    List(Plain),
    /// List receipts that wait for their message (scope `admin`)
    #[command(after_help = "Example:\n  heliograph carriers orphans --carrier north")]
    Orphans(Orphans),
}

#[derive(Debug, clap::Args)]
pub struct Plain {
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, clap::Args)]
pub struct Orphans {
    /// Only this carrier's
    #[arg(long)]
    pub carrier: Option<String>,
    /// 1 to 200
    #[arg(long, default_value_t = 50)]
    pub limit: u16,
    /// Where the last page ended
    #[arg(long)]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(plain) => {
            let list = Client::new(&plain.target)?.get("/v1/carriers").await?;
            print(&list, plain.target.json, list_text);
        }
        Command::Orphans(orphans) => {
            let pairs = [
                ("carrier", orphans.carrier),
                ("limit", Some(orphans.limit.to_string())),
                ("cursor", orphans.cursor),
            ];
            let path = format!("/v1/receipts/orphans{}", query(&pairs));
            let page = Client::new(&orphans.target)?.get(&path).await?;
            print(&page, orphans.target.json, orphans_text);
        }
    }
    Ok(())
}

fn list_text(list: &Value) -> String {
    let mut out = String::new();
    for carrier in list["items"].as_array().into_iter().flatten() {
        let receipts = &carrier["receipts"];
        let state = match carrier["connected"].as_bool() {
            Some(true) => "connected",
            _ => "down",
        };
        let mut form = format!(
            "{} ({}",
            text(receipts, "id_form"),
            text(receipts, "id_form_is")
        );
        if text(receipts, "id_form_is") == "learning" {
            let _ = write!(form, ", {} of 100 pairs", receipts["id_pairs"]);
        }
        let _ = writeln!(
            out,
            "{:<16} {state:<10} queued {}  in flight {}  ids {form})  receipts per {} ({})",
            text(carrier, "id"),
            carrier["queued"],
            carrier["in_flight"],
            text(receipts, "per"),
            text(receipts, "per_is"),
        );
        let counts = receipts["counts"].as_object().into_iter().flatten();
        let told: Vec<String> = counts
            .filter(|(_, n)| n.as_u64() != Some(0))
            .map(|(what, n)| format!("{what} {n}"))
            .collect();
        if !told.is_empty() {
            let _ = writeln!(out, "{:<16} {}", "", told.join("  "));
        }
    }
    out.trim_end().to_owned()
}

fn orphans_text(page: &Value) -> String {
    let mut out = String::new();
    for orphan in page["items"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "{}  {:<12} {:<14} {} {}",
            text(orphan, "received_at"),
            text(orphan, "carrier"),
            text(orphan, "status"),
            text(orphan, "carrier_message_id"),
            text(orphan, "error"),
        );
    }
    match page["next_cursor"].as_str() {
        Some(cursor) => {
            let _ = write!(out, "more: --cursor {cursor}");
        }
        None if out.is_empty() => out.push_str("no receipt waits for its message"),
        None => {}
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_carrier_tells_how_far_its_lesson_is() {
        let list = json!({ "items": [{ "id": "north", "connected": true, "queued": 3, "in_flight": 1,
            "receipts": { "id_form": "auto", "id_form_is": "learning", "id_pairs": 57, "per": "segment",
                "per_is": "learned", "counts": { "matched": 57, "dropped": 0 } } }] });
        let shown = list_text(&list);
        assert!(
            shown.contains("auto (learning, 57 of 100 pairs)"),
            "{shown}"
        );
        assert!(shown.contains("per segment (learned)"), "{shown}");
        assert!(shown.ends_with("matched 57"), "{shown}");
    }

    #[test]
    fn nothing_that_waits_is_said_so() {
        let page = json!({ "items": [], "next_cursor": null });
        assert_eq!(orphans_text(&page), "no receipt waits for its message");
    }
}
