//! What a character is to a reader: the letter that it shows, the letter that it may pose as, or nothing at all.
//! Small tables of our own instead of the Unicode data files, which weigh more than the rest of the plugin.
//! Knows single characters only; whether a pose is to be believed is the matcher's affair.

/// A character without its decoration: lower case, no diacritics, no compatibility form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    One(char),
    Two(char, char),
    /// White space, punctuation, symbols, emoji: what stands between words.
    Separator,
    /// Zero-width characters and combining marks: not seen, or seen as part of the letter before.
    Invisible,
}

/// The character in its plain form, in its own script.
pub fn plain(c: char) -> Plain {
    match c {
        'a'..='z' | '0'..='9' => Plain::One(c),
        'A'..='Z' => Plain::One(c.to_ascii_lowercase()),
        '\0'..='\x7f' => Plain::Separator,
        '\u{c0}'..='\u{24f}' => latin(LATIN, c as usize - 0xc0, c),
        '\u{1e00}'..='\u{1eff}' => latin(LATIN_ADDITIONAL, c as usize - 0x1e00, c),
        _ if is_invisible(c) => Plain::Invisible,
        _ => match compatibility(c) {
            Some(ascii) if ascii.is_ascii_alphanumeric() => Plain::One(ascii.to_ascii_lowercase()),
            Some(ascii) if ascii.is_ascii() => Plain::Separator,
            Some(other) => Plain::One(other),
            None => other_script(c),
        },
    }
}

/// The Latin letter (lower case) that this letter of another script looks like, if any.
/// Asks for the letter as it was written, because capitals look like other letters than small ones do.
pub fn pose(c: char) -> Option<char> {
    if c.is_ascii() {
        return None;
    }
    POSES
        .binary_search_by_key(&c, |&(from, _)| from)
        .ok()
        .map(|found| POSES[found].1)
}

/// Whether a letter that poses is drawn exactly like its Latin twin in at least one case, so that a whole word
/// may be written with such letters. `п` for `n` is not: it deceives only among Latin letters.
pub fn is_twin(c: char) -> bool {
    pose(c).is_some() && !matches!(c, 'п' | 'г' | 'ь' | 'ш' | 'и' | 'я' | 'Я' | 'И' | 'ч' | 'б')
}

/// The letters that a digit or a symbol stands for in "l33t" writing.
pub fn leet(c: char) -> &'static str {
    match c {
        '0' => "o",
        '1' => "il",
        '2' => "z",
        '3' => "e",
        '4' => "a",
        '5' => "s",
        '6' => "g",
        '7' => "t",
        '8' => "b",
        '9' => "g",
        '@' => "a",
        '$' => "s",
        '!' | '|' => "il",
        '(' => "c",
        '+' => "t",
        '€' => "e",
        '£' => "l",
        '¥' => "y",
        '¢' => "c",
        _ => "",
    }
}

/// Symbols that are punctuation to most texts and letters to some.
pub fn is_soft_symbol(c: char) -> bool {
    matches!(c, '@' | '$' | '!' | '|' | '(' | '+' | '€' | '£' | '¥' | '¢')
}

/// Scripts that put no space between words, so that a word has no visible border.
pub fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Scripts whose letters have Latin look-alikes: Greek, Cyrillic, Armenian, Cherokee.
pub fn is_look_alike_script(c: char) -> bool {
    matches!(c, '\u{370}'..='\u{58f}' | '\u{13a0}'..='\u{13ff}' | '\u{1f00}'..='\u{1fff}' | '\u{ab70}'..='\u{abbf}')
}

/// A stable byte per class of characters that may be taken for one another. Two texts that a reader could take for
/// the same have the same bytes; the reverse is for the matcher to verify.
pub fn class(original: char, plain: char) -> u8 {
    // A small letter shares the class of its capital's look-alike: `μ` looks like nothing, `Μ` like M.
    let capital = || {
        if is_look_alike_script(plain) {
            plain.to_uppercase().next().and_then(pose)
        } else {
            None
        }
    };
    let seen = pose(original)
        .or_else(|| pose(plain))
        .or_else(capital)
        .unwrap_or(plain);
    match seen {
        'i' | 'l' | '1' | '!' | '|' | '£' => b'i',
        'o' | '0' => b'o',
        'e' | '3' | '€' => b'e',
        'a' | '4' | '@' => b'a',
        's' | '5' | '$' => b's',
        't' | '7' | '+' => b't',
        'b' | '8' => b'b',
        'g' | '6' | '9' => b'g',
        'z' | '2' => b'z',
        'c' | '(' | '¢' => b'c',
        // Greek: ν is v and Ν is N, η is n and Η is H, υ is u and Υ is Y.
        'n' | 'v' | 'h' => b'n',
        'u' | 'y' | '¥' => b'u',
        'a'..='z' => seen as u8,
        // A collision costs one verification.
        other => 0x80 | ((other as u32).wrapping_mul(0x9e37) >> 7) as u8 & 0x7f,
    }
}

/// Zero-width characters, direction marks, variation selectors, tags, and marks that combine with the letter before.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5c7}' | '\u{61c}' | '\u{640}'
        | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{93c}' | '\u{94d}' | '\u{9bc}' | '\u{9cd}' | '\u{a4d}' | '\u{acd}'
        | '\u{b4d}' | '\u{bcd}' | '\u{c4d}' | '\u{ccd}' | '\u{d4d}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{20d0}'..='\u{20ff}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

/// The ordinary character behind a full-width, mathematical, circled, superscript or Roman-numeral form.
pub fn compatibility(c: char) -> Option<char> {
    let code = c as u32;
    let letter = |offset: u32| char::from(b'a' + (offset % 26) as u8);
    let digit = |offset: u32| char::from(b'0' + (offset % 10) as u8);
    Some(match code {
        0xff01..=0xff5e => char::from((code - 0xff01) as u8 + b'!'),
        0x1d400..=0x1d6a3 => letter(code - 0x1d400),
        0x1d6a8..=0x1d7cb => return mathematical_greek((code - 0x1d6a8) % 58),
        0x1d7ce..=0x1d7ff => digit(code - 0x1d7ce),
        0x249c..=0x24b5 => letter(code - 0x249c),
        0x24b6..=0x24cf => letter(code - 0x24b6),
        0x24d0..=0x24e9 => letter(code - 0x24d0),
        0x1f110..=0x1f129 => letter(code - 0x1f110),
        0x1f130..=0x1f149 => letter(code - 0x1f130),
        0x1f150..=0x1f169 => letter(code - 0x1f150),
        0x1f170..=0x1f189 => letter(code - 0x1f170),
        0x2460..=0x2468 => digit(code - 0x2460 + 1),
        0x2776..=0x277e => digit(code - 0x2776 + 1),
        0x2080..=0x2089 => digit(code - 0x2080),
        0x2074..=0x2079 => digit(code - 0x2070),
        _ => COMPATIBILITY
            .binary_search_by_key(&c, |&(from, _)| from)
            .ok()
            .map(|found| COMPATIBILITY[found].1)?,
    })
}

fn mathematical_greek(index: u32) -> Option<char> {
    match index {
        0..=24 => char::from_u32(0x3b1 + index),
        26..=50 => char::from_u32(0x3b1 + index - 26),
        _ => None,
    }
}

fn latin(table: &[u8], index: usize, c: char) -> Plain {
    match table[index] {
        b'1' => Plain::Two('a', 'e'),
        b'2' => Plain::Two('s', 's'),
        b'3' => Plain::Two('o', 'e'),
        b'4' => Plain::Two('i', 'j'),
        b'5' => Plain::Two('t', 'h'),
        b'.' => Plain::Separator,
        b'-' => Plain::One(lower(c)),
        letter => Plain::One(char::from(letter)),
    }
}

fn other_script(c: char) -> Plain {
    match c {
        'ё' | 'Ё' => Plain::One('е'),
        'ά' | 'Ά' => Plain::One('α'),
        'έ' | 'Έ' => Plain::One('ε'),
        'ή' | 'Ή' => Plain::One('η'),
        'ί' | 'Ί' | 'ϊ' | 'Ϊ' | 'ΐ' => Plain::One('ι'),
        'ό' | 'Ό' => Plain::One('ο'),
        'ύ' | 'Ύ' | 'ϋ' | 'Ϋ' | 'ΰ' => Plain::One('υ'),
        'ώ' | 'Ώ' => Plain::One('ω'),
        'ς' => Plain::One('σ'),
        // Cherokee: the small letters are small capitals, and rare.
        '\u{13a0}'..='\u{13ef}' => Plain::One(c),
        'ﬀ' => Plain::Two('f', 'f'),
        'ﬁ' => Plain::Two('f', 'i'),
        'ﬂ' => Plain::Two('f', 'l'),
        'ﬆ' | 'ﬅ' => Plain::Two('s', 't'),
        _ if c.is_alphanumeric() => Plain::One(lower(c)),
        _ => Plain::Separator,
    }
}

/// Simple lower case; the few letters that would become two stay as they are.
pub fn lower(c: char) -> char {
    let mut lowered = c.to_lowercase();
    match (lowered.next(), lowered.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

/// U+00C0 to U+024F. `.` separates, `-` is itself, digits are pairs: 1 ae, 2 ss, 3 oe, 4 ij, 5 th.
const LATIN: &[u8] = b"\
aaaaaa1ceeeeiiiidnooooo.ouuuuy52aaaaaa1ceeeeiiiidnooooo.ouuuuy5y\
aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiii44jjkkklllllll\
lllnnnnnnnnnoooooo33rrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs\
bbbb--cccdddd-eeeff-y-iikkl-wnn-oo--pp-----ttt-uuuvyyzz---------\
-------------aaiioouuuuuuuuuueaaaa--ggggkkoooo--j---gg--nnaa11oo\
aaaaeeeeiiiioooorrrruuuusstt--hhnd--zzaaeeooooooooyylntj--accl--\
---bu-eejj--rryy";

/// U+1E00 to U+1EFF, most of it Vietnamese.
const LATIN_ADDITIONAL: &[u8] = b"\
aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmm\
mmmmnnnnnnnnoooooooopppprrrrrrrrssssssssssttttttttuuuuuuuuuuvvvv\
wwwwwwwwwwxxxxyyzzzzzzhtwy-s--2daaaaaaaaaaaaaaaaaaaaaaaaeeeeeeee\
eeeeeeeeiiiioooooooooooooooooooooooouuuuuuuuuuuuuuyyyyyyyy------";

/// Single characters that are a form of an ordinary one, sorted.
#[rustfmt::skip]
const COMPATIBILITY: &[(char, char)] = &[
    ('ª', 'a'), ('²', '2'), ('³', '3'), ('¹', '1'), ('º', 'o'), ('ɐ', 'a'), ('ɑ', 'a'),
    ('ɓ', 'b'), ('ɔ', 'c'), ('ɕ', 'c'), ('ɖ', 'd'), ('ɗ', 'd'), ('ə', 'e'), ('ɛ', 'e'),
    ('ɡ', 'g'), ('ɢ', 'g'), ('ɦ', 'h'), ('ɨ', 'i'), ('ɩ', 'i'), ('ɪ', 'i'), ('ɫ', 'l'),
    ('ɯ', 'w'), ('ɱ', 'm'), ('ɲ', 'n'), ('ɴ', 'n'), ('ɵ', 'o'), ('ɾ', 'r'), ('ʀ', 'r'),
    ('ʂ', 's'), ('ʈ', 't'), ('ʉ', 'u'), ('ʋ', 'v'), ('ʏ', 'y'), ('ʐ', 'z'), ('ʙ', 'b'),
    ('ʜ', 'h'), ('ʟ', 'l'), ('ʰ', 'h'), ('ʲ', 'j'), ('ʳ', 'r'), ('ʷ', 'w'), ('ʸ', 'y'),
    ('ˡ', 'l'), ('ˢ', 's'), ('ˣ', 'x'), ('ᴀ', 'a'), ('ᴄ', 'c'), ('ᴅ', 'd'), ('ᴇ', 'e'),
    ('ᴊ', 'j'), ('ᴋ', 'k'), ('ᴍ', 'm'), ('ᴏ', 'o'), ('ᴘ', 'p'), ('ᴛ', 't'), ('ᴜ', 'u'),
    ('ᴠ', 'v'), ('ᴡ', 'w'), ('ᴢ', 'z'), ('ᵃ', 'a'), ('ᵇ', 'b'), ('ᵈ', 'd'), ('ᵉ', 'e'),
    ('ᵍ', 'g'), ('ᵏ', 'k'), ('ᵐ', 'm'), ('ᵒ', 'o'), ('ᵖ', 'p'), ('ᵗ', 't'), ('ᵘ', 'u'),
    ('ᵛ', 'v'), ('ᶜ', 'c'), ('ᶠ', 'f'), ('ᶻ', 'z'), ('⁰', '0'), ('ⁱ', 'i'), ('ⁿ', 'n'),
    ('ₐ', 'a'), ('ₑ', 'e'), ('ₒ', 'o'), ('ₓ', 'x'), ('ℂ', 'c'), ('℃', 'c'), ('ℊ', 'g'),
    ('ℋ', 'h'), ('ℌ', 'h'), ('ℍ', 'h'), ('ℎ', 'h'), ('ℐ', 'i'), ('ℑ', 'i'), ('ℒ', 'l'),
    ('ℓ', 'l'), ('ℕ', 'n'), ('ℙ', 'p'), ('ℚ', 'q'), ('ℛ', 'r'), ('ℜ', 'r'), ('ℝ', 'r'),
    ('ℤ', 'z'), ('ℨ', 'z'), ('\u{212a}', 'k'), ('\u{212b}', 'a'), ('ℬ', 'b'), ('ℭ', 'c'),
    ('ℯ', 'e'), ('ℰ', 'e'), ('ℱ', 'f'), ('ℳ', 'm'), ('ℴ', 'o'), ('ℹ', 'i'), ('ⅅ', 'd'),
    ('ⅆ', 'd'), ('ⅇ', 'e'), ('ⅈ', 'i'), ('ⅉ', 'j'), ('Ⅰ', 'i'), ('Ⅴ', 'v'), ('Ⅹ', 'x'),
    ('Ⅼ', 'l'), ('Ⅽ', 'c'), ('Ⅾ', 'd'), ('Ⅿ', 'm'), ('ⅰ', 'i'), ('ⅴ', 'v'), ('ⅹ', 'x'),
    ('ⅼ', 'l'), ('ⅽ', 'c'), ('ⅾ', 'd'), ('ⅿ', 'm'), ('⓪', '0'), ('ⱼ', 'j'),
];

/// Letters of other scripts that are drawn like a Latin letter, sorted.
#[rustfmt::skip]
const POSES: &[(char, char)] = &[
    // Greek
    ('Α', 'a'), ('Β', 'b'), ('Ε', 'e'), ('Ζ', 'z'), ('Η', 'h'), ('Ι', 'i'), ('Κ', 'k'),
    ('Μ', 'm'), ('Ν', 'n'), ('Ο', 'o'), ('Ρ', 'p'), ('Τ', 't'), ('Υ', 'y'), ('Χ', 'x'),
    ('α', 'a'), ('β', 'b'), ('γ', 'y'), ('ε', 'e'), ('ζ', 'z'), ('η', 'n'), ('ι', 'i'),
    ('κ', 'k'), ('ν', 'v'), ('ο', 'o'), ('ρ', 'p'), ('σ', 'o'), ('τ', 't'), ('υ', 'u'),
    ('χ', 'x'), ('ω', 'w'), ('ϲ', 'c'), ('ϳ', 'j'), ('Ϲ', 'c'),
    // Cyrillic
    ('Ѕ', 's'), ('І', 'i'), ('Ј', 'j'), ('А', 'a'), ('В', 'b'), ('Е', 'e'), ('И', 'n'),
    ('К', 'k'), ('М', 'm'), ('Н', 'h'), ('О', 'o'), ('Р', 'p'), ('С', 'c'), ('Т', 't'),
    ('У', 'y'), ('Х', 'x'), ('Я', 'r'), ('а', 'a'), ('б', 'b'), ('в', 'b'), ('г', 'r'),
    ('е', 'e'), ('и', 'n'), ('к', 'k'), ('м', 'm'), ('н', 'h'), ('о', 'o'), ('п', 'n'),
    ('р', 'p'), ('с', 'c'), ('т', 't'), ('у', 'y'), ('х', 'x'), ('ч', 'y'), ('ш', 'w'),
    ('ь', 'b'), ('я', 'r'), ('ѕ', 's'), ('і', 'i'), ('ј', 'j'), ('ѡ', 'w'), ('ѵ', 'v'),
    ('Ү', 'y'), ('ү', 'y'), ('Һ', 'h'), ('һ', 'h'), ('Ӏ', 'l'), ('ӏ', 'l'), ('Ԁ', 'd'),
    ('ԁ', 'd'), ('Ԛ', 'q'), ('ԛ', 'q'), ('Ԝ', 'w'), ('ԝ', 'w'),
    // Armenian
    ('Ս', 'u'), ('Օ', 'o'), ('ա', 'w'), ('գ', 'q'), ('զ', 'q'), ('հ', 'h'), ('ո', 'n'),
    ('ս', 'u'), ('ց', 'g'), ('ք', 'p'), ('օ', 'o'),
    // Cherokee
    ('Ꭰ', 'd'), ('Ꭱ', 'r'), ('Ꭲ', 't'), ('Ꭵ', 'i'), ('Ꭺ', 'a'), ('Ꭻ', 'j'), ('Ꭼ', 'e'),
    ('Ꮃ', 'w'), ('Ꮇ', 'm'), ('Ꮋ', 'h'), ('Ꮐ', 'g'), ('Ꮓ', 'z'), ('Ꮞ', '4'), ('Ꮟ', 'b'),
    ('Ꮢ', 'r'), ('Ꮤ', 'w'), ('Ꮥ', 's'), ('Ꮩ', 'v'), ('Ꮪ', 's'), ('Ꮮ', 'l'), ('Ꮯ', 'c'),
    ('Ꮲ', 'p'), ('Ꮶ', 'k'), ('Ᏼ', 'b'),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> String {
        let mut folded = String::new();
        for c in text.chars() {
            match plain(c) {
                Plain::One(one) => folded.push(one),
                Plain::Two(one, two) => folded.extend([one, two]),
                Plain::Separator => folded.push(' '),
                Plain::Invisible => {}
            }
        }
        folded
    }

    #[test]
    fn tables_are_sorted_for_binary_search() {
        assert!(POSES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(COMPATIBILITY.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn latin_tables_cover_their_blocks() {
        assert_eq!(LATIN.len(), 0x250 - 0xc0);
        assert_eq!(LATIN_ADDITIONAL.len(), 0x100);
    }

    #[test]
    fn diacritics_fall_away() {
        assert_eq!(
            word("Crème brûlée Łódź ŞŞ Việt Straße Ærø"),
            "creme brulee lodz ss viet strasse aero"
        );
    }

    #[test]
    fn decomposed_letters_read_like_composed_ones() {
        assert_eq!(word("cre\u{300}me"), "creme");
    }

    #[test]
    fn compatibility_forms_read_as_ascii() {
        for disguised in [
            "ＦＲＥＥ",
            "𝐟𝐫𝐞𝐞",
            "𝕱𝖗𝖊𝖊",
            "ⓕⓡⓔⓔ",
            "🅵🆁🅴🅴",
            "ᶠʳᵉᵉ",
            "𝚏𝚛𝚎𝚎",
            "ℱ𝓇ℯℯ",
        ] {
            assert_eq!(word(disguised), "free", "{disguised}");
        }
    }

    #[test]
    fn zero_width_characters_vanish() {
        assert_eq!(word("f\u{200b}r\u{200d}e\u{2060}e\u{feff}\u{ad}"), "free");
    }

    #[test]
    fn what_may_pose_as_a_letter_shares_its_class() {
        for (c, p) in POSES.iter().copied() {
            let Plain::One(own) = plain(c) else {
                panic!("{c} has no plain form")
            };
            assert_eq!(class(c, own), class(p, p), "{c} and {p}");
            assert_eq!(class(own, own), class(p, p), "{own} and {p}");
        }
        for c in "0123456789@$!|(+€£¥¢".chars() {
            for letter in leet(c).chars() {
                assert_eq!(class(c, c), class(letter, letter), "{c} and {letter}");
            }
        }
    }
}
