//! What is a hit and what is not.

use super::*;

const DEFAULT: Options = Options {
    whole_word: true,
    see_through: true,
    repeats: false,
    scripts: Scripts::Mixed,
};

fn found_with<'a>(words: &[&str], options: Options, text: &'a str) -> Vec<&'a str> {
    let patterns = words
        .iter()
        .map(|word| Pattern::new(0, word, options).unwrap())
        .collect();
    let words = Words::new(patterns).unwrap();
    let hits: Vec<&str> = words
        .find(text, |_| true)
        .iter()
        .map(|hit| &text[hit.start..hit.end])
        .collect();
    assert!(
        words.suspects(text) || hits.is_empty(),
        "the screen missed {hits:?}"
    );
    hits
}

fn found<'a>(words: &[&str], text: &'a str) -> Vec<&'a str> {
    found_with(words, DEFAULT, text)
}

#[test]
fn a_word_is_found_in_any_case_and_accent() {
    assert_eq!(
        found(&["casino"], "Big CASINO and Cásinò!"),
        ["CASINO", "Cásinò"]
    );
    assert_eq!(
        found(&["Glücksspiel"], "glucksspiel, GLÜCKSSPIEL"),
        ["glucksspiel", "GLÜCKSSPIEL"]
    );
}

#[test]
fn scunthorpe_is_a_town() {
    for text in [
        "Scunthorpe",
        "Essex and Sussex",
        "classic assassin",
        "cocktail",
        "Penistone Road",
        "e s s e x",
        "analysis",
    ] {
        assert_eq!(
            found(&["cunt", "sex", "ass", "cock", "penis", "anal"], text),
            Vec::<&str>::new(),
            "{text}"
        );
    }
}

#[test]
fn apostrophes_commas_and_sentence_borders_do_not_make_words() {
    for text in [
        "he'll come",
        "She\u{2019}ll",
        "a free, man",
        "Here, ll",
        "s.o. said",
        "Go. Od",
    ] {
        assert_eq!(
            found(&["hell", "shell", "freeman", "herell", "good"], text),
            Vec::<&str>::new(),
            "{text}"
        );
    }
}

#[test]
fn homoglyphs_are_seen_through_in_mixed_words() {
    for text in [
        "cаsino",
        "саsinо",
        "CΑSINO",
        "ｃａｓｉｎｏ",
        "𝐜𝐚𝐬𝐢𝐧𝐨",
        "ᴄᴀsɪɴᴏ",
        "ⓒⓐⓢⓘⓝⓞ",
        "caѕіno",
        "саsіпо",
    ] {
        assert_eq!(found(&["casino"], text), [text]);
    }
}

#[test]
fn a_word_wholly_of_twins_in_a_latin_text_is_seen_through() {
    assert_eq!(found(&["cash"], "Get саѕһ now"), ["саѕһ"]);
}

#[test]
fn genuine_cyrillic_and_greek_are_not_read_as_latin() {
    for text in [
        "Этот сор и рост, а не вор",
        "Вот хор поёт песню",
        "Το παιδι εχει κοτα",
    ] {
        assert_eq!(
            found(&["cop", "poct", "bop", "bot", "xop", "to", "kota"], text),
            Vec::<&str>::new(),
            "{text}"
        );
    }
    let always = Options {
        scripts: Scripts::Always,
        ..DEFAULT
    };
    assert_eq!(found_with(&["cop"], always, "Этот сор лежит"), ["сор"]);
}

#[test]
fn a_cyrillic_word_is_found_also_with_latin_letters_in_it() {
    assert_eq!(
        found(&["казино"], "Лучшее казино, кaзинo и КАЗИНО"),
        ["казино", "кaзинo", "КАЗИНО"]
    );
    assert_eq!(found(&["сор"], "a cop came"), Vec::<&str>::new());
}

#[test]
fn digits_and_symbols_for_letters_are_seen_through() {
    for text in [
        "fr33", "FR3E", "v14gr4", "v!agra", "p@ypal", "pa$$word", "$ex",
    ] {
        assert_eq!(
            found(&["free", "viagra", "paypal", "password", "sex"], text),
            [text]
        );
    }
}

#[test]
fn numbers_and_prices_are_not_words() {
    for text in [
        "505",
        "Code 1337",
        "$5 or 5 $",
        "call 0800 666 7787",
        "Win! Call (now)",
        "10:15 - 11:45",
    ] {
        assert_eq!(
            found(
                &["sos", "leet", "s", "ss", "boob", "ll"].map(|w| if w == "s" { "is" } else { w }),
                text
            ),
            Vec::<&str>::new(),
            "{text}"
        );
    }
}

#[test]
fn punctuation_next_to_a_word_is_punctuation() {
    assert_eq!(
        found(&["free"], "It's free!Call, (free) $free$ FREE!!!"),
        ["free", "free", "free", "FREE"]
    );
}

#[test]
fn zero_width_characters_and_marks_are_seen_through() {
    for text in [
        "f\u{200b}r\u{200d}ee",
        "f\u{ad}ree",
        "f\u{336}r\u{336}e\u{336}e",
        "fr\u{feff}ee",
    ] {
        assert_eq!(found(&["free"], text).len(), 1, "{text:?}");
    }
}

#[test]
fn spaced_out_letters_are_seen_through() {
    for text in [
        "f r e e",
        "f.r.e.e",
        "f-r-e-e",
        "F * R * E * E",
        "f  r  e  e",
        "f\u{a0}r\u{a0}e\u{a0}e",
    ] {
        assert_eq!(found(&["free"], text), [text]);
    }
    assert_eq!(found(&["free"], "get f r e e m o n e y"), ["f r e e"]);
    assert_eq!(found(&["sex"], "s e x   n o w"), ["s e x"]);
}

#[test]
fn thin_marks_inside_a_word_are_seen_through() {
    for text in ["cas.ino", "ca-si-no", "c*sino", "cas_ino"] {
        let expected: &[&str] = if text == "c*sino" { &[] } else { &[text] };
        assert_eq!(found(&["casino"], text), expected);
    }
}

#[test]
fn ordinary_words_side_by_side_do_not_make_one() {
    for text in ["the ref reef", "cas ino", "fr ee", "an al"] {
        assert_eq!(
            found(&["free", "casino", "anal"], text),
            Vec::<&str>::new(),
            "{text}"
        );
    }
}

#[test]
fn a_phrase_is_found_whatever_is_between_its_words() {
    assert_eq!(
        found(
            &["free spins"],
            "Free  spins, FREE-SPINS, freespins, free\nspins"
        )
        .len(),
        4
    );
    assert_eq!(found(&["free spins"], "free of spins"), Vec::<&str>::new());
}

#[test]
fn a_capital_i_poses_as_a_small_l() {
    assert_eq!(found(&["paypal"], "PayPaI"), ["PayPaI"]);
    assert_eq!(found(&["fail", "fall"], "FALL and FAIL"), ["FALL", "FAIL"]);
    assert_eq!(found(&["fail"], "fall"), Vec::<&str>::new());
}

#[test]
fn repeated_letters_are_seen_through_where_asked() {
    let repeats = Options {
        repeats: true,
        ..DEFAULT
    };
    assert_eq!(
        found_with(&["free"], repeats, "freeeee fffrrreeee FREE"),
        ["freeeee", "fffrrreeee", "FREE"]
    );
    assert_eq!(
        found_with(&["free", "ass"], repeats, "fre as"),
        Vec::<&str>::new()
    );
    assert_eq!(found(&["free"], "freeee"), Vec::<&str>::new());
}

#[test]
fn anywhere_means_inside_words_too() {
    let anywhere = Options {
        whole_word: false,
        ..DEFAULT
    };
    assert_eq!(
        found_with(&["bitcoin"], anywhere, "mybitcoins"),
        ["bitcoin"]
    );
}

#[test]
fn exact_words_are_not_seen_through() {
    let exact = Options {
        see_through: false,
        ..DEFAULT
    };
    assert_eq!(
        found_with(&["free"], exact, "fr33 f r e e f.ree frее free"),
        ["free"]
    );
}

#[test]
fn scripts_without_spaces_need_no_border() {
    assert_eq!(found(&["赌场"], "最好的赌场在这里"), ["赌场"]);
}

#[test]
fn a_large_list_finds_the_same() {
    let many: Vec<String> = (0..3000).map(|n| format!("word{n}x")).collect();
    let mut patterns: Vec<Pattern> = many
        .iter()
        .map(|word| Pattern::new(0, word, DEFAULT).unwrap())
        .collect();
    patterns.push(Pattern::new(1, "casino", DEFAULT).unwrap());
    let words = Words::new(patterns).unwrap();
    assert!(words.suspects("a c.a.s.i.n.o") && !words.suspects("a clean text"));
    assert_eq!(words.find("word17x and cаsino", |rule| rule == 1).len(), 1);
}

#[test]
fn a_word_without_letters_is_refused() {
    assert!(Pattern::new(0, "!!", DEFAULT).is_none() && Pattern::new(0, "a", DEFAULT).is_none());
}
