//! Where a reader sees one character though there are several code points: the places to spare when
//! a text is cut. Knows no alphabet and no length.

/// The last place from `full` down to `floor()`, behind `start`, that is inside no combining
/// sequence; `full` where there is none. The floor is asked for only where `full` will not do.
pub fn soft_end(text: &str, start: usize, full: usize, floor: impl FnOnce() -> usize) -> usize {
    let Some(next) = text[full..].chars().next() else {
        return full;
    };
    if !joins(&text[start..full], next) {
        return full;
    }
    let floor = floor();
    text[start..full]
        .char_indices()
        .rev()
        .map(|(offset, character)| (start + offset, character))
        .take_while(|(at, _)| *at >= floor && *at > start)
        .find(|(at, character)| !joins(&text[start..*at], *character))
        .map_or(full, |(at, _)| at)
}

/// Whether a reader sees `next` as one with the end of `before`: what matters of Unicode's
/// grapheme clusters (UAX 29) in messages, not all of it. A wrong answer costs looks, never text.
fn joins(before: &str, next: char) -> bool {
    const ZERO_WIDTH_JOINER: char = '\u{200d}';
    let Some(last) = before.chars().next_back() else {
        return false;
    };
    let flags = before.chars().rev().take_while(|c| is_regional(*c)).count();
    extends(next)
        || last == ZERO_WIDTH_JOINER
        || (last == '\r' && next == '\n')
        || (is_virama(last) && next.is_alphabetic())
        || (is_regional(next) && flags % 2 == 1)
}

fn is_regional(c: char) -> bool {
    matches!(c, '\u{1f1e6}'..='\u{1f1ff}')
}

/// Viramas of the Indic scripts, which bind the consonant behind them.
fn is_virama(c: char) -> bool {
    matches!(
        c,
        '\u{94d}'
            | '\u{9cd}'
            | '\u{a4d}'
            | '\u{acd}'
            | '\u{b4d}'
            | '\u{bcd}'
            | '\u{c4d}'
            | '\u{ccd}'
            | '\u{d4d}'
    )
}

/// Combining marks, joiners, variation selectors, skin tones, tags, conjoining vowels and finals.
#[rustfmt::skip]
fn extends(c: char) -> bool {
    matches!(
        c,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}'
        // Hebrew, Arabic, Syriac
        | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}'..='\u{5c2}' | '\u{5c4}'..='\u{5c5}' | '\u{5c7}'
        | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6dc}'
        | '\u{6df}'..='\u{6e4}' | '\u{6e7}'..='\u{6e8}' | '\u{6ea}'..='\u{6ed}' | '\u{730}'..='\u{74a}'
        // Devanagari, Bengali, Gurmukhi, Gujarati, Oriya, Tamil, Telugu, Kannada, Malayalam, Sinhala
        | '\u{900}'..='\u{903}' | '\u{93a}'..='\u{93c}' | '\u{93e}'..='\u{94f}' | '\u{951}'..='\u{957}'
        | '\u{962}'..='\u{963}' | '\u{981}'..='\u{983}' | '\u{9bc}' | '\u{9be}'..='\u{9cd}' | '\u{9d7}'
        | '\u{9e2}'..='\u{9e3}' | '\u{a01}'..='\u{a03}' | '\u{a3c}'..='\u{a51}' | '\u{a70}'..='\u{a71}'
        | '\u{a81}'..='\u{a83}' | '\u{abc}' | '\u{abe}'..='\u{acd}' | '\u{b01}'..='\u{b03}' | '\u{b3c}'
        | '\u{b3e}'..='\u{b57}' | '\u{b82}' | '\u{bbe}'..='\u{bcd}' | '\u{bd7}' | '\u{c00}'..='\u{c04}'
        | '\u{c3e}'..='\u{c56}' | '\u{c81}'..='\u{c83}' | '\u{cbc}' | '\u{cbe}'..='\u{cd6}'
        | '\u{d00}'..='\u{d03}' | '\u{d3e}'..='\u{d4d}' | '\u{d57}' | '\u{d81}'..='\u{d83}'
        | '\u{dca}'..='\u{ddf}'
        // Thai, Lao, Tibetan, Myanmar, Khmer
        | '\u{e31}' | '\u{e33}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}' | '\u{eb1}' | '\u{eb3}'..='\u{ebc}'
        | '\u{ec8}'..='\u{ece}' | '\u{f71}'..='\u{f84}' | '\u{102b}'..='\u{103e}' | '\u{17b4}'..='\u{17d3}'
        // Hangul vowels and finals
        | '\u{1160}'..='\u{11ff}'
        | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{200c}'..='\u{200d}' | '\u{20d0}'..='\u{20ff}'
        | '\u{302a}'..='\u{302f}' | '\u{3099}'..='\u{309a}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}'
        | '\u{ff9e}'..='\u{ff9f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}'
        | '\u{e0100}'..='\u{e01ef}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where `text` may be cut.
    fn places(text: &str) -> Vec<usize> {
        text.char_indices()
            .filter(|(at, c)| *at > 0 && !joins(&text[..*at], *c))
            .map(|(at, _)| at)
            .collect()
    }

    #[test]
    fn sequences_are_seen_whole() {
        assert_eq!(places("abc"), [1, 2]);
        for whole in [
            "e\u{301}",
            "👩\u{200d}👧",
            "👍🏽",
            "❤\u{fe0f}",
            "🇫🇷",
            "क्षि",
            "\r\n",
            "ที่",
        ] {
            assert_eq!(places(whole), [0usize; 0], "{whole:?}");
        }
        assert_eq!(places("🇫🇷🇩🇪"), [8], "between flags, not inside");
    }

    #[test]
    fn the_last_soft_place_above_the_floor_is_taken() {
        let text = "abe\u{301}\u{301}c";
        assert_eq!(soft_end(text, 0, 5, || 0), 2);
        assert_eq!(soft_end(text, 0, 5, || 3), 5, "the floor forbids it");
        assert_eq!(soft_end(text, 2, 5, || 2), 5, "nothing but the sequence");
        assert_eq!(soft_end(text, 0, 1, || 0), 1);
    }
}
