//! The table of verdicts, for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Row, Verdict};

/// Lines of Markdown, so that they can be pasted where they are shown.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| # | statement | runs | lost | duplicated | verdict |\n| --- | --- | ---: | ---: | ---: | --- |\n",
    );
    for row in rows {
        let o = &row.outcome;
        let count = |n: usize| match o.verdict {
            Verdict::NotRun(_) => "–".to_owned(),
            _ => n.to_string(),
        };
        let verdict = match &o.verdict {
            Verdict::Holds => "holds".to_owned(),
            Verdict::Fails(why) => format!("**fails**: {}", first_line(why)),
            Verdict::NotRun(why) => format!("not run: {}", first_line(why)),
        };
        let note = match o.note.as_str() {
            "" => String::new(),
            note => format!(" ({note})"),
        };
        let _ = writeln!(
            out,
            "| {} | {}: {} | {} | {} | {} | {verdict}{note} |",
            row.number,
            row.statement,
            row.part,
            count(o.runs),
            count(o.lost),
            count(o.duplicated),
        );
    }
    out
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

pub fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let (verdict, why) = match &row.outcome.verdict {
            Verdict::Holds => ("holds", None),
            Verdict::Fails(why) => ("fails", Some(why)),
            Verdict::NotRun(why) => ("not run", Some(why)),
        };
        json!({
            "number": row.number,
            "statement": row.statement,
            "part": row.part,
            "runs": row.outcome.runs,
            "lost": row.outcome.lost,
            "duplicated": row.outcome.duplicated,
            "verdict": verdict,
            "why": why,
            "note": row.outcome.note,
            "seconds": row.took.as_secs_f64(),
            "seed": row.seed,
        })
    };
    rows.iter().map(row).collect()
}
