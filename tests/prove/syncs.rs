//! The order of things inside of the server, as strace sees it: an answer that accepts a message leaves
//! only after an fdatasync that began when the message was already written, and that returned.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::ledger::Loaded;
use super::strace::Strace;
use super::{Outcome, Run};

const CALLS: &str = "trace=pwrite64,fdatasync,write,writev,sendto,sendmsg";

pub async fn order(run: Run) -> Outcome {
    let mut loaded = Loaded::start(None).await;
    let log = loaded.rig.dir.path().join("strace");
    let arguments = ["-e", CALLS, "-xx", "-s", "4194304"];
    let strace = match Strace::attach(loaded.rig.pid(), &arguments, &log).await {
        Ok(strace) => strace,
        Err(why) => return Outcome::not_run(why),
    };
    loaded.load().await;
    tokio::time::sleep(Duration::from_millis(run.pick(300, 3_000) as u64)).await;
    let told = loaded.stop().await;
    strace.detach().await;
    let judged = judge(&log, &told);
    let mut faults = judged.faults;
    if judged.answers < told.len() {
        faults.push(format!(
            "{} of {} answers were seen",
            judged.answers,
            told.len()
        ));
    }
    Outcome::judged(judged.answers, 0, 0, &faults).noted(format!("{} syncs", judged.syncs))
}

#[derive(Default)]
struct Judged {
    answers: usize,
    syncs: usize,
    faults: Vec<String>,
}

/// What is known of a message.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// In a write that has returned.
    Written,
    /// A sync has begun since.
    Syncing,
    /// That sync has returned.
    Synced,
}

/// Reads the log in its order: a call begins on its line, or on the line that says it is unfinished, and
/// has returned on its line, or on the one that resumes it.
fn judge(log: &Path, told: &[String]) -> Judged {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut stages: HashMap<&str, Stage> = HashMap::new();
    // Ids as they are in the store and as clients are told them.
    let needles: Vec<(&str, String, [String; 2])> = told
        .iter()
        .map(|id| {
            let plain: String = id.chars().filter(char::is_ascii_hexdigit).collect();
            let stored = plain
                .as_bytes()
                .chunks(2)
                .map(|pair| format!("\\x{}", String::from_utf8_lossy(pair).to_lowercase()));
            (
                id.as_str(),
                stored.collect(),
                [escaped(id), escaped(&plain)],
            )
        })
        .collect();
    let mut open: HashMap<&str, (&str, Vec<&str>)> = HashMap::new();
    let mut judged = Judged::default();
    for line in text.lines() {
        let Some((thread, rest)) = line.trim_start_matches("[pid ").split_once([' ', ']']) else {
            continue;
        };
        let rest = rest.trim_start();
        let resumed = rest.starts_with("<... ");
        let unfinished = rest.ends_with("<unfinished ...>");
        let call = match resumed {
            true => rest[5..].split(' ').next().unwrap_or_default(),
            false => rest.split('(').next().unwrap_or_default(),
        };
        let failed = rest.contains(" = -1 ");
        if !resumed {
            let mut carried = Vec::new();
            match call {
                "pwrite64" => {
                    let wanted = needles.iter().filter(|(id, _, _)| !stages.contains_key(id));
                    carried.extend(wanted.filter(|n| rest.contains(&n.1)).map(|n| n.0));
                }
                "fdatasync" => {
                    for (id, stage) in &mut stages {
                        if *stage == Stage::Written {
                            *stage = Stage::Syncing;
                            carried.push(id);
                        }
                    }
                }
                // To a file or to a socket; only an answer that accepts names an id that is not synced.
                _ => {
                    for (id, _, names) in &needles {
                        if names.iter().any(|name| rest.contains(name.as_str())) {
                            judged.answers += 1;
                            if stages.get(id) != Some(&Stage::Synced) {
                                judged
                                    .faults
                                    .push(format!("{id} is told before it is synced"));
                            }
                            stages.insert(id, Stage::Synced);
                        }
                    }
                }
            }
            open.insert(thread, (call, carried));
        }
        if unfinished {
            continue;
        }
        let Some((call, carried)) = open.remove(thread) else {
            continue;
        };
        judged.syncs += usize::from(call == "fdatasync");
        for id in carried {
            let stage = match (call, failed) {
                ("pwrite64", false) => Stage::Written,
                ("fdatasync", false) => Stage::Synced,
                ("fdatasync", true) => Stage::Written,
                _ => continue,
            };
            stages.insert(id, stage);
        }
    }
    judged
}

fn escaped(text: &str) -> String {
    text.bytes().map(|b| format!("\\x{b:02x}")).collect()
}
