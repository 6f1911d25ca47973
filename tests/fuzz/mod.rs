//! The corpora, run once: what the fuzzer found interesting keeps its rule. `make fuzz` looks for more.

use std::path::Path;

use heliograph_tests::fuzz::{PLANTED, TARGETS};

/// Inputs of a target, each of a few octets to a few hundred.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let entries = std::fs::read_dir(folder.join(name)).expect("a corpus");
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        let octets = std::fs::read(&path).expect("an input");
        found.push((path.display().to_string(), octets));
    }
    found.sort();
    found
}

#[test]
fn every_target_holds_on_its_corpus() {
    for (name, rule) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 10, "{name} has {} inputs", corpus.len());
        for (file, octets) in corpus {
            let held = std::panic::catch_unwind(|| rule(&octets));
            assert!(held.is_ok(), "{file}");
        }
    }
}

/// Every beginning and every changed bit of a corpus: what a mutator tries first.
#[test]
fn every_target_holds_on_what_is_near_its_corpus() {
    for (name, rule) in TARGETS {
        for (_, octets) in corpus(name).iter().take(40) {
            for end in 0..octets.len().min(200) {
                rule(&octets[..end]);
            }
            let mut changed = octets.clone();
            for bit in 0..changed.len().min(100) * 8 {
                changed[bit / 8] ^= 1 << (bit % 8);
                rule(&changed);
                changed[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn the_planted_bug_is_one() {
    let mut pdu = b"\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01".to_vec();
    // Mandatory parameters, all empty, then user_message_reference.
    pdu.extend_from_slice(&[0; 17]);
    pdu.extend_from_slice(b"\x02\x04\x00\x02\x00\x01");
    assert!(std::panic::catch_unwind(|| (PLANTED.1)(&pdu)).is_err());
}
