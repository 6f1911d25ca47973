//! A text rewritten for GSM's default alphabet as a reader would put up with it: typographic marks,
//! spaces that nobody sees, accents the alphabet lacks, Greek in capitals, letters of other scripts
//! that look Latin. What has no such form stays. Whether it is worth it is for others to judge.

use super::gsm;
use super::replacements::REPLACEMENTS;

/// A rewritten text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transliteration {
    pub text: String,
    /// In the order of the text.
    pub changes: Vec<Change>,
}

/// One place where the text was rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// In characters (Unicode scalar values) of the text as it was, from 0.
    pub position: usize,
    /// A character; with the letter before it where it is a combining mark.
    pub from: String,
    pub to: String,
}

/// Rewrites what the default alphabet and its extension table lack and a reader would not miss; none
/// where there is nothing to rewrite.
pub fn transliterate(text: &str) -> Option<Transliteration> {
    let mut out = String::with_capacity(text.len());
    let mut changes = Vec::new();
    // The last character that was no mark, and its place.
    let mut letter = None;
    for (position, character) in text.chars().enumerate() {
        if gsm::septets(character) > 0 {
            letter = Some((position, character));
            out.push(character);
            continue;
        }
        if is_mark(character) {
            // A mark belongs to the letter before it, which may have a code together with it.
            let Some((at, letter)) = letter.filter(|(_, l)| l.is_alphabetic()) else {
                out.push(character);
                continue;
            };
            let whole = out.chars().next_back().and_then(|l| composed(l, character));
            if let Some(whole) = whole {
                out.pop();
                out.push(whole);
            }
            changes.push(Change {
                position: at,
                from: [letter, character].iter().collect(),
                to: out
                    .chars()
                    .next_back()
                    .map(String::from)
                    .unwrap_or_default(),
            });
            continue;
        }
        letter = Some((position, character));
        let mut ascii = [0; 4];
        let to = match replacement(character) {
            Some(to) => to,
            None => match styled(character) {
                Some(plain) => plain.encode_utf8(&mut ascii),
                None => {
                    out.push(character);
                    continue;
                }
            },
        };
        out.push_str(to);
        changes.push(Change {
            position,
            from: character.to_string(),
            to: to.to_owned(),
        });
    }
    (!changes.is_empty()).then_some(Transliteration { text: out, changes })
}

fn replacement(character: char) -> Option<&'static str> {
    REPLACEMENTS
        .binary_search_by_key(&character, |(from, _)| *from)
        .ok()
        .map(|found| REPLACEMENTS[found].1)
}

/// Letters and digits that differ from ASCII in nothing but their style: full width, mathematical.
fn styled(character: char) -> Option<char> {
    /// Of each style capitals, then small letters.
    const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    match u32::from(character) {
        point @ 0xFF01..=0xFF5E => char::from_u32(point - 0xFEE0).filter(|c| gsm::septets(*c) > 0),
        point @ 0x1D400..=0x1D6A3 => Some(char::from(
            LETTERS[(point - 0x1D400) as usize % LETTERS.len()],
        )),
        point @ 0x1D7CE..=0x1D7FF => char::from_digit((point - 0x1D7CE) % 10, 10),
        _ => None,
    }
}

/// Combining diacritical marks.
fn is_mark(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36F}')
}

/// The letter of the default alphabet that is `letter` with `mark`.
fn composed(letter: char, mark: char) -> Option<char> {
    Some(match (letter, mark) {
        ('a', '\u{300}') => 'à',
        ('e', '\u{300}') => 'è',
        ('i', '\u{300}') => 'ì',
        ('o', '\u{300}') => 'ò',
        ('u', '\u{300}') => 'ù',
        ('e', '\u{301}') => 'é',
        ('E', '\u{301}') => 'É',
        ('n', '\u{303}') => 'ñ',
        ('N', '\u{303}') => 'Ñ',
        ('a', '\u{308}') => 'ä',
        ('A', '\u{308}') => 'Ä',
        ('o', '\u{308}') => 'ö',
        ('O', '\u{308}') => 'Ö',
        ('u', '\u{308}') => 'ü',
        ('U', '\u{308}') => 'Ü',
        ('a', '\u{30A}') => 'å',
        ('A', '\u{30A}') => 'Å',
        ('C', '\u{327}') => 'Ç',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewritten(text: &str) -> String {
        transliterate(text).map_or_else(|| text.to_owned(), |t| t.text)
    }

    #[test]
    fn typographic_marks_become_plain_ones() {
        assert_eq!(
            rewritten("“It’s\u{a0}here” – really… ‹ok›\u{200b}\t№ 5 • ½"),
            "\"It's here\" - really... <ok> No 5 * 1/2"
        );
    }

    #[test]
    fn accents_that_the_alphabet_has_stay_and_others_go() {
        assert_eq!(
            rewritten("façade, São João, Łódź, Crème brûlée, Ýmir, ấ"),
            "facade, Sao Joao, Lodz, Crème brulée, Ymir, a"
        );
        assert_eq!(rewritten("Straße äöüñ ÆØÅ"), "Straße äöüñ ÆØÅ");
        assert_eq!(transliterate("plain @ € {}"), None, "nothing to do");
    }

    #[test]
    fn combining_marks_join_their_letter_or_go() {
        let t = transliterate("Cafe\u{301} c\u{327}a").unwrap();
        assert_eq!(t.text, "Café ca");
        assert_eq!(
            t.changes,
            [
                Change {
                    position: 3,
                    from: "e\u{301}".into(),
                    to: "é".into()
                },
                Change {
                    position: 6,
                    from: "c\u{327}".into(),
                    to: "c".into()
                },
            ]
        );
        assert_eq!(rewritten("\u{301}a"), "\u{301}a", "a mark on nothing");
    }

    #[test]
    fn look_alikes_become_latin_and_other_scripts_stay() {
        assert_eq!(rewritten("РауРаl"), "PayPal");
        assert_eq!(rewritten("Привет 你好 😀"), "Пpивeт 你好 😀");
        assert_eq!(rewritten("Καλημέρα"), "KAΛHMEPA");
        assert_eq!(
            rewritten("Ｆｕｌｌ　ｗｉｄｔｈ！ 𝐁𝐨𝐥𝐝 𝟗"),
            "Full width! Bold 9"
        );
    }

    #[test]
    fn replacements_are_in_order_and_in_the_alphabet() {
        assert!(REPLACEMENTS.is_sorted_by(|a, b| a.0 < b.0));
        for (from, to) in REPLACEMENTS {
            assert_eq!(gsm::septets(*from), 0, "{from:?} needs none");
            assert!(gsm::count(to).is_some(), "{from:?}: {to:?}");
        }
    }

    proptest! {
        #[test]
        fn what_has_a_code_is_never_touched(text: String) {
            let rewritten = rewritten(&text);
            if gsm::count(&text).is_some() {
                prop_assert_eq!(&rewritten, &text);
            }
            let strangers = |s: &str| s.chars().filter(|c| gsm::septets(*c) == 0).count();
            prop_assert!(strangers(&rewritten) <= strangers(&text));
        }

        #[test]
        fn changes_tell_the_whole_difference(text in "[aeüΩЖ“”…ﬁ\u{301}\u{327}é ]{0,12}") {
            // Each change names what stood there.
            let characters: Vec<char> = text.chars().collect();
            for change in transliterate(&text).map(|t| t.changes).unwrap_or_default() {
                let from: Vec<char> = change.from.chars().collect();
                prop_assert_eq!(characters[change.position], from[0]);
            }
        }
    }
}
