//! `heliograph events`: what happened to the server, and what happens to it now.

use std::time::Duration;

use serde_json::Value;

use super::client::{Client, Failure, Target, query};
use super::send::text;
use crate::telemetry::inert;

/// How often a follower asks.
const ASK: Duration = Duration::from_secs(1);

/// Show what happened to the server: policies, canaries, breakers, quotas
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  heliograph events --follow")]
pub struct Args {
    /// Go on until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Only those after the event with this number
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub since: u64,
    #[command(flatten)]
    pub target: Target,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.target)?;
    let mut since = args.since;
    loop {
        let pairs = [
            ("format", Some("json".to_owned())),
            ("since", Some(since.to_string())),
        ];
        let page = client.get(&format!("/v1/events{}", query(&pairs))).await?;
        for event in page["items"].as_array().into_iter().flatten() {
            since = event["id"].as_u64().unwrap_or(since);
            if args.target.json {
                println!("{event}");
            } else {
                println!("{}", inert(&line(event)));
            }
        }
        if page["next_cursor"].is_string() {
            continue;
        }
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(ASK).await;
    }
}

fn line(event: &Value) -> String {
    let (at, kind) = (text(event, "at"), text(event, "type"));
    let (subject, detail) = (text(event, "subject"), text(event, "detail"));
    format!("{at}  {kind:<20} {subject}  {detail}")
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({ "id": 4, "at": "2026-01-01T00:00:00Z", "type": "breaker.opened",
            "subject": "words", "detail": "words is skipped for a while" });
        assert_eq!(
            line(&event),
            "2026-01-01T00:00:00Z  breaker.opened       words  words is skipped for a while"
        );
    }
}
