//! Keys that are guessed: no answer tells how near a guess was, an address that guesses is slowed down, and who
//! has a key of the same address is not.

use super::{Neighbour, attacker, connect_from};
use crate::http::exchange;
use crate::prove::{Outcome, Run};
use crate::{KEY, Plan, Rig};

/// Wrong keys that an address may present in a minute.
const PATIENT_WITH: usize = 20;

pub async fn guessed(run: Run) -> Outcome {
    let mut rig = Rig::start(Plan::default()).await;
    let neighbour = Neighbour::start(&rig);
    let mut faults = Vec::new();
    let near = guesses();
    let rounds = run.pick(2, 20);
    let mut runs = 0;
    let mut first: Option<String> = None;
    for round in 0..rounds {
        // The neighbour's own address guesses in the first round, others in the next.
        let source = match round {
            0 => [127, 0, 0, 1],
            n => attacker(n),
        };
        for (n, guess) in near.iter().cycle().take(PATIENT_WITH + 30).enumerate() {
            runs += 1;
            let request = format!(
                "GET /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: {guess}\r\nconnection: close\r\n\r\n"
            );
            let stream = connect_from(&rig.address, source).await;
            let answer = exchange(stream.expect("a connection"), request.as_bytes()).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            let head = head.to_ascii_lowercase();
            if n >= PATIENT_WITH {
                if !head.starts_with("http/1.1 429") || !head.contains("retry-after:") {
                    faults.push(format!("guess {n} of one address: {head}"));
                }
            } else if !head.starts_with("http/1.1 401") {
                faults.push(format!("{guess:?}: {head}"));
            } else if *first.get_or_insert_with(|| body.to_owned()) != body {
                faults.push(format!("{guess:?} is answered otherwise: {body}"));
            }
        }
    }
    neighbour.outcome(&mut rig, runs, faults).await
}

/// Values of the header, from nowhere near to all but right.
fn guesses() -> Vec<String> {
    let short = &KEY[..KEY.len() - 1];
    let last = format!("{short}1");
    let first = format!("x{}", &KEY[1..]);
    let mut all: Vec<String> = [
        "hg_0000000000000000000000000000000000000000000000000000000000000000",
        short,
        &last,
        &first,
        &format!("{KEY}0"),
        &format!("{KEY},{KEY}"),
        &format!("\"{KEY}\""),
        &KEY.to_ascii_uppercase(),
        "",
        "null",
        &"A".repeat(10_000),
    ]
    .iter()
    .map(|key| format!("Bearer {key}"))
    .collect();
    all.push(KEY.to_owned());
    all.push(format!("Basic {KEY}"));
    all.push(format!("Bearer {KEY}\r\nauthorization: Bearer {KEY}"));
    all.push(format!("Bearer {last}\r\nauthorization: Bearer {KEY}"));
    all
}
