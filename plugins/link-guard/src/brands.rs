//! Names that others may not pose as, and hosts that pose as them: by look-alike letters, by a letter more or less, or
//! by carrying the name in a host of somebody else. Knows hosts only, label by label.

use std::collections::BTreeMap;

use heliograph_plugin_text::fold::{self, Plain};
use heliograph_plugin_text::urls::{Hosts, unicode_label};

use crate::config::Brand;

const WORDS_MAX: usize = 1_000;
const WORD: std::ops::RangeInclusive<usize> = 3..=40;
/// Labels of a host that are looked at, from the right; the left ones of a longer host nobody reads.
const LABELS_MAX: usize = 10;
/// Shorter words are in too many others to be looked for inside.
const INSIDE_MIN: usize = 6;
/// Shorter words are too near to too many others.
const NEAR_MIN: usize = 5;
const NEAR_TWO_MIN: usize = 9;

/// How a host poses as a brand, with the protected word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pose<'a> {
    Lookalike(&'a str),
    Inside(&'a str),
    Near(&'a str),
}

#[derive(Debug, Default)]
pub struct Brands {
    words: Vec<Word>,
    /// Skeleton to place in `words`.
    by_skeleton: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Word {
    word: String,
    skeleton: Vec<u8>,
    /// Which letters the skeleton has.
    letters: u64,
}

impl Brands {
    /// The brands, and the hosts that are each one's own. The error names the field.
    pub fn new(brands: &[Brand]) -> Result<(Self, Vec<Hosts>), String> {
        let mut this = Self::default();
        let mut owned = Vec::with_capacity(brands.len());
        for (index, brand) in brands.iter().enumerate() {
            let at = |error: String| format!("brands[{index}].{error}");
            if brand.domains.is_empty() {
                return Err(at("domains: there is none".to_owned()));
            }
            let own =
                Hosts::new(&brand.domains).map_err(|error| at(format!("domains: {error}")))?;
            let of_domains = brand.domains.iter().map(|domain| {
                let domain = domain.trim().to_ascii_lowercase();
                let labels: Vec<&str> = domain.split('.').collect();
                main_label(&labels).unwrap_or_default().to_owned()
            });
            // A brand with a short domain is protected by the words it names.
            let of_domains =
                of_domains.filter(|word| word.is_ascii() && WORD.contains(&word.len()));
            for word in of_domains.collect::<Vec<_>>() {
                this.add(word);
            }
            for word in &brand.words {
                let word = word.trim().to_ascii_lowercase();
                let valid = word.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if !valid || !WORD.contains(&word.len()) {
                    return Err(at(format!(
                        "words: `{word}` is not 3 to 40 letters and digits"
                    )));
                }
                this.add(word);
            }
            owned.push(own);
        }
        if this.words.len() > WORDS_MAX {
            return Err(format!(
                "brands: {} words, at most {WORDS_MAX} are allowed",
                this.words.len()
            ));
        }
        Ok((this, owned))
    }

    fn add(&mut self, word: String) {
        let skeleton = skeleton(&word);
        if self.words.iter().any(|known| known.word == word) {
            return;
        }
        self.by_skeleton
            .entry(skeleton.clone())
            .or_insert(self.words.len());
        self.words.push(Word {
            letters: letters(skeleton.as_bytes()),
            skeleton: skeleton.into_bytes(),
            word,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How the host, which is nobody's own, poses as a brand. The most deceptive pose counts.
    pub fn pose(&self, host: &str) -> Option<Pose<'_>> {
        let labels: Vec<&str> = host.rsplit('.').take(LABELS_MAX + 1).collect();
        let seen: Vec<String> = labels
            .iter()
            .skip(1)
            .map(|label| unicode_label(label).unwrap_or_else(|| (*label).to_owned()))
            .collect();
        let exact = seen
            .iter()
            .filter_map(|label| self.exact(label))
            .reduce(|a, b| match (a, b) {
                (Pose::Inside(_), Pose::Lookalike(_)) => b,
                (Pose::Inside(_) | Pose::Lookalike(_) | Pose::Near(_), _) => a,
            });
        exact.or_else(|| self.inside(&seen)).or_else(|| {
            let written: Vec<&str> = host.split('.').collect();
            let main = unicode_label(main_label(&written)?)?;
            self.near(&main)
        })
    }

    /// The label, or one of its parts between hyphens, is a protected word or drawn like one.
    fn exact(&self, label: &str) -> Option<Pose<'_>> {
        let joined: String = label.chars().filter(|c| *c != '-').collect();
        let parts = label.split('-').filter(|part| part.len() < label.len());
        let whole = [label, joined.as_str()];
        let mut found = None;
        for part in whole.into_iter().chain(parts).take(LABELS_MAX) {
            let Some(place) = self.by_skeleton.get(&skeleton(part)) else {
                continue;
            };
            let word = &self.words[*place].word;
            if part != word && !self.words.iter().any(|known| known.word == part) {
                return Some(Pose::Lookalike(word));
            }
            found = Some(Pose::Inside(word));
        }
        found
    }

    fn inside(&self, labels: &[String]) -> Option<Pose<'_>> {
        let skeletons: Vec<String> = labels.iter().map(|label| skeleton(label)).collect();
        let masks: Vec<u64> = skeletons.iter().map(|s| letters(s.as_bytes())).collect();
        let words = self
            .words
            .iter()
            .filter(|word| word.word.len() >= INSIDE_MIN);
        for word in words {
            let has = skeletons.iter().zip(&masks).any(|(skeleton, mask)| {
                mask & word.letters == word.letters && contains(skeleton.as_bytes(), &word.skeleton)
            });
            if has {
                return Some(Pose::Inside(&word.word));
            }
        }
        None
    }

    fn near(&self, label: &str) -> Option<Pose<'_>> {
        let skeleton = skeleton(label);
        let skeleton = skeleton.as_bytes();
        let mask = letters(skeleton);
        self.words.iter().find_map(|word| {
            let most = match word.word.len() {
                0..NEAR_MIN => return None,
                NEAR_MIN..NEAR_TWO_MIN => 1,
                NEAR_TWO_MIN.. => 2,
            };
            let apart = skeleton.len().abs_diff(word.skeleton.len());
            // An edit changes at most two letters of the set.
            let differ = (mask ^ word.letters).count_ones() as usize;
            (apart <= most && differ <= 2 * most && distance(skeleton, &word.skeleton, most))
                .then_some(Pose::Near(&word.word))
        })
    }
}

/// `example` of `www.example.co.uk`: the label that somebody registered.
fn main_label<'a>(labels: &[&'a str]) -> Option<&'a str> {
    const SECOND_LEVEL: [&str; 14] = [
        "ac", "co", "com", "edu", "go", "gob", "gov", "gouv", "mil", "ne", "net", "or", "org",
        "govt",
    ];
    let [.., third, second, top] = labels else {
        return labels.iter().rev().nth(1).copied();
    };
    match top.len() == 2 && SECOND_LEVEL.contains(second) {
        true => Some(third),
        false => Some(second),
    }
}

/// The label as a hasty reader sees it: letters without their decoration and script, figures as the letters that they
/// are drawn like, `rn` as `m`, hyphens gone.
fn skeleton(label: &str) -> String {
    let mut seen = String::with_capacity(label.len());
    for c in label.chars() {
        match fold::plain(c) {
            Plain::One(one) => push(
                &mut seen,
                fold::pose(c).or_else(|| fold::pose(one)).unwrap_or(one),
            ),
            Plain::Two(one, two) => {
                push(&mut seen, one);
                push(&mut seen, two);
            }
            Plain::Separator | Plain::Invisible => {}
        }
    }
    seen
}

fn push(seen: &mut String, c: char) {
    let drawn = match c {
        '0' => 'o',
        '1' | 'i' => 'l',
        '3' => 'e',
        '4' => 'a',
        '5' => 's',
        '7' => 't',
        '8' => 'b',
        '9' | 'q' => 'g',
        other => other,
    };
    let joined = match (seen.chars().next_back(), drawn) {
        (Some('r'), 'n') => 'm',
        (Some('v'), 'v') => 'w',
        (Some('c'), 'l') => 'd',
        _ => return seen.push(drawn),
    };
    seen.pop();
    seen.push(joined);
}

fn letters(skeleton: &[u8]) -> u64 {
    skeleton
        .iter()
        .fold(0, |mask, octet| mask | 1 << (octet & 63))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// Whether one becomes the other by `most` edits: a letter more, less or other, or two neighbours the other way round
/// (optimal string alignment). Both are short: a label has 63 octets.
fn distance(one: &[u8], other: &[u8], most: usize) -> bool {
    const LONGEST: usize = 80;
    if other.len() >= LONGEST || one.len() >= LONGEST {
        return false;
    }
    let width = other.len() + 1;
    let mut before = [0usize; LONGEST];
    let mut last: [usize; LONGEST] = std::array::from_fn(|i| i);
    let mut row = [0usize; LONGEST];
    for i in 1..=one.len() {
        row[0] = i;
        let mut least = i;
        for j in 1..width {
            let same = one[i - 1] == other[j - 1];
            let mut cost = (last[j - 1] + usize::from(!same))
                .min(last[j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                cost = cost.min(before[j - 2] + 1);
            }
            row[j] = cost;
            least = least.min(cost);
        }
        if least > most {
            return false;
        }
        (before, last, row) = (last, row, before);
    }
    last[width - 1] <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brands(domains: &[&str], words: &[&str]) -> Brands {
        let owned = |listed: &[&str]| listed.iter().map(|s| (*s).to_owned()).collect();
        let brand = Brand {
            domains: owned(domains),
            words: owned(words),
        };
        Brands::new(&[brand]).unwrap().0
    }

    #[test]
    fn letters_that_look_alike_are_seen_through() {
        let brands = brands(&["paypal.com", "www.microsoft.com", "barclays.co.uk"], &[]);
        for host in [
            "paypai.com",
            "paypa1.net",
            "pаypal.com",
            "xn--pypal-4ve.com",
            "rnicrosoft.com",
            "micr0soft.com",
            "pay-pal.com",
            "barc1ays.co.uk",
            "bardays.com",
            "secure.paypa1.com",
            "paypa1-login.top",
        ] {
            let ascii = host.replace("pаypal", "xn--pypal-4ve");
            assert!(
                matches!(brands.pose(&ascii), Some(Pose::Lookalike(_))),
                "{host}: {:?}",
                brands.pose(&ascii)
            );
        }
    }

    #[test]
    fn the_name_in_somebody_elses_host_is_noticed() {
        let brands = brands(&["paypal.com", "dhl.com"], &["mypay"]);
        for host in [
            "paypal.xyz",
            "paypal.com.evil.net",
            "paypal-secure.com",
            "securepaypal.com",
            "paypalsecure.com",
            "dhl-parcel.top",
            "login.dhl.evil.net",
            "mypay.example.org",
        ] {
            assert!(
                matches!(brands.pose(host), Some(Pose::Inside(_))),
                "{host}: {:?}",
                brands.pose(host)
            );
        }
    }

    #[test]
    fn a_letter_more_less_or_other_is_near() {
        let brands = brands(&["paypal.com", "deutschebank.de"], &[]);
        for host in [
            "paypall.com",
            "payal.com",
            "papyal.com",
            "paytal.co.uk",
            "deutchebnk.de",
            "deutschebankk.com",
        ] {
            let pose = brands.pose(host);
            assert!(
                matches!(pose, Some(Pose::Near(_) | Pose::Inside(_))),
                "{host}: {pose:?}"
            );
        }
    }

    #[test]
    fn other_hosts_are_left_alone() {
        let brands = brands(&["paypal.com", "dhl.com", "apple.com"], &[]);
        for host in [
            "example.com",
            "papaya.com",
            "pay.example.com",
            "mydhlx.com",
            "pineapples.io",
            "pal.com",
            "1.2.3.4",
            "com",
        ] {
            assert_eq!(brands.pose(host), None, "{host}");
        }
    }

    #[test]
    fn the_registered_label_is_found() {
        for (host, label) in [
            ("example.com", "example"),
            ("www.example.co.uk", "example"),
            ("a.b.example.org", "example"),
            ("co.uk", "co"),
            ("com.example.de", "example"),
        ] {
            let labels: Vec<&str> = host.split('.').collect();
            assert_eq!(main_label(&labels), Some(label), "{host}");
        }
        assert_eq!(main_label(&["com"]), None);
    }

    #[test]
    fn distances_are_right() {
        for (one, other, edits) in [
            ("kitten", "sitting", 3),
            ("abcd", "acbd", 1),
            ("", "ab", 2),
            ("same", "same", 0),
            ("abc", "ab", 1),
        ] {
            assert!(
                distance(one.as_bytes(), other.as_bytes(), edits),
                "{one} {other}"
            );
            assert!(
                edits == 0 || !distance(one.as_bytes(), other.as_bytes(), edits - 1),
                "{one} {other}"
            );
        }
    }
}
