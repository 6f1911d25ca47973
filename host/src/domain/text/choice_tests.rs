//! What is chosen for whom, and at what price.

use proptest::prelude::*;

use super::*;

fn wish(encoding: EncodingWish, languages: &[Language]) -> TextWish {
    TextWish {
        encoding: Some(encoding),
        languages: languages.iter().copied().collect(),
        transliterate: Some(false),
    }
}

const ABLE: Abilities = Abilities {
    shift_tables: true,
    transliterate: false,
    reference: Reference::Bits8(0),
};

fn chosen(text: &str, wish: &TextWish) -> (Alphabet, ShiftTables) {
    let choice = choose(text, wish, ABLE).unwrap();
    assert_eq!(choice.text, text, "nothing is rewritten");
    (choice.alphabet, choice.shift)
}

fn single(language: Language) -> ShiftTables {
    ShiftTables {
        locking: None,
        single: Some(language),
    }
}

/// 75 characters, too many for one message in UCS-2.
const TURKISH: &str = "Sayın abonemiz, faturanızın son ödeme günü yarındır. İyi günler dileriz, ğ.";
const HINDI: &str = "आपका ऑर्डर भेज दिया गया है और कल सुबह तक आपके पते पर पहुँच जाएगा, कृपया घर पर रहें";

#[test]
fn shift_tables_are_used_only_where_they_are_allowed() {
    let ucs2 = (Alphabet::Ucs2, ShiftTables::default());
    assert_eq!(chosen(TURKISH, &TextWish::default()), ucs2);
    assert_eq!(
        chosen(TURKISH, &wish(EncodingWish::Auto, &[Language::Spanish])),
        ucs2
    );
    assert_eq!(
        chosen(TURKISH, &wish(EncodingWish::Ucs2, &[Language::Turkish])),
        ucs2
    );
    let turkish = (Alphabet::Gsm7, single(Language::Turkish));
    assert_eq!(
        chosen(TURKISH, &wish(EncodingWish::Auto, &[Language::Turkish])),
        turkish
    );
    assert_eq!(
        chosen(TURKISH, &wish(EncodingWish::National, &[])).0,
        Alphabet::Gsm7
    );
    let cannot = Abilities {
        shift_tables: false,
        ..ABLE
    };
    let all = wish(EncodingWish::National, &[]);
    assert_eq!(
        choose(TURKISH, &all, cannot).unwrap().alphabet,
        Alphabet::Ucs2
    );
}

#[test]
fn what_costs_no_more_in_ucs2_travels_in_it() {
    // Every phone reads it; the tables would save nothing.
    let short = "Teşekkürler";
    let all = wish(EncodingWish::National, &[]);
    assert_eq!(
        chosen(short, &all),
        (Alphabet::Ucs2, ShiftTables::default())
    );
}

#[test]
fn a_locking_shift_table_carries_a_script_of_its_own() {
    let shift = chosen(HINDI, &wish(EncodingWish::National, &[])).1;
    assert_eq!(shift.locking, Some(Language::Hindi));
    let plan = plan_coded(HINDI, Alphabet::Gsm7, shift, Reference::Bits8(0)).unwrap();
    assert_eq!(plan.segments, 1);
    let ucs2 = plan_coded(
        HINDI,
        Alphabet::Ucs2,
        ShiftTables::default(),
        Reference::Bits8(0),
    );
    assert_eq!(ucs2.unwrap().segments, 2);
}

#[test]
fn two_tables_are_used_where_one_does_not_hold_it() {
    // Letters of the locking shift table, Latin capitals of the single one.
    let text = format!("{HINDI} ABC");
    let shift = chosen(&text, &wish(EncodingWish::Auto, &[Language::Hindi])).1;
    assert_eq!(
        (shift.locking, shift.single),
        (Some(Language::Hindi), Some(Language::Hindi))
    );
}

#[test]
fn gsm7_alone_names_the_first_stranger() {
    let gsm7 = wish(EncodingWish::Gsm7, &[Language::Turkish]);
    assert_eq!(
        choose("é ok 😀 ж", &gsm7, ABLE),
        Err(TextError::NotGsm7 {
            character: '😀',
            position: 5
        })
    );
    assert_eq!(
        choose("é ok €", &gsm7, ABLE).unwrap().alphabet,
        Alphabet::Gsm7
    );
}

#[test]
fn a_text_is_rewritten_only_where_that_saves() {
    let mut willing = TextWish {
        transliterate: Some(true),
        ..TextWish::default()
    };
    let choice = choose("It’s", &willing, ABLE).unwrap();
    assert_eq!(
        (choice.text.as_ref(), choice.alphabet),
        ("It's", Alphabet::Gsm7)
    );
    assert_eq!(choice.changes.len(), 1);
    // The emoji needs UCS-2 in any case, so the quotation mark stays.
    let choice = choose("It’s 😀", &willing, ABLE).unwrap();
    assert_eq!(
        (choice.text.as_ref(), choice.alphabet),
        ("It’s 😀", Alphabet::Ucs2)
    );
    assert_eq!(choice.changes, []);
    // One segment less, in UCS-2 still: each bold letter takes a surrogate pair.
    let bold = format!("{}ж", "𝐀".repeat(40));
    assert_eq!(
        choose(&bold, &willing, ABLE).unwrap().text,
        format!("{}ж", "A".repeat(40))
    );
    willing.encoding = Some(EncodingWish::Gsm7);
    assert_eq!(
        choose("It’s", &willing, ABLE).unwrap().alphabet,
        Alphabet::Gsm7
    );
    assert!(choose("It’s 😀", &willing, ABLE).is_err());
}

#[test]
fn the_client_decides_on_rewriting_before_the_carrier() {
    let keen = Abilities {
        transliterate: true,
        ..ABLE
    };
    let say = |transliterate| {
        let wish = TextWish {
            transliterate,
            ..TextWish::default()
        };
        choose("It’s", &wish, keen).unwrap().changes.len()
    };
    assert_eq!([say(None), say(Some(true)), say(Some(false))], [1, 1, 0]);
}

#[test]
fn allowed_letters_are_not_rewritten_where_they_cost_nothing() {
    let wish = TextWish {
        transliterate: Some(true),
        ..wish(EncodingWish::Auto, &[Language::Turkish])
    };
    let choice = choose(TURKISH, &wish, ABLE).unwrap();
    assert_eq!(
        (choice.shift, choice.changes.len()),
        (single(Language::Turkish), 0)
    );
}

#[test]
fn a_message_says_more_than_its_account() {
    let account = wish(EncodingWish::Auto, &[Language::Turkish]);
    let message = TextWish {
        transliterate: Some(true),
        ..TextWish::default()
    };
    let both = message.or(account);
    assert_eq!(both.languages, account.languages);
    assert_eq!(both.transliterate, Some(true));
    let plain = wish(EncodingWish::Ucs2, &[]);
    assert_eq!(plain.or(account).encoding(), EncodingWish::Ucs2);
}

#[test]
fn sets_of_languages_survive_the_record() {
    let some: Languages = [Language::Turkish, Language::Urdu].into_iter().collect();
    assert_eq!(Languages::from_bits(some.bits()), some);
    assert_eq!(
        some.iter().collect::<Vec<_>>(),
        [Language::Turkish, Language::Urdu]
    );
    assert_eq!(Languages::from_bits(u16::MAX), Languages::all());
    for encoding in EncodingWish::ALL {
        assert_eq!(EncodingWish::from_u8(encoding as u8), Some(encoding));
        assert_eq!(EncodingWish::from_name(encoding.name()), Some(encoding));
    }
}

/// Every way there is, tried in full.
fn fewest_segments(text: &str, languages: Languages) -> usize {
    let some = || std::iter::once(None).chain(languages.iter().map(Some));
    let mut ways = vec![Way::plain(text, Alphabet::Ucs2, Reference::Bits8(0))];
    for locking in some() {
        for single in some() {
            let shift = ShiftTables { locking, single };
            if Codec::of(shift).count(text).is_some() {
                ways.push(Way::of(text, Alphabet::Gsm7, shift, Reference::Bits8(0)));
            }
        }
    }
    ways.iter().map(|w| w.segments).min().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_that_is_allowed_is_cheaper(
        letters in proptest::collection::vec(
            proptest::sample::select(vec!["ş", "a", "B", "ã", "á", "क", "।", "ক", "€", "[", "😀", " ", "9"]),
            1..400,
        ),
        pick in proptest::collection::vec(proptest::sample::select(Language::ALL.to_vec()), 0..4),
    ) {
        let text = letters.concat();
        let wish = wish(EncodingWish::Auto, &pick);
        let choice = choose(&text, &wish, ABLE).unwrap();
        let plan = plan_coded(&text, choice.alphabet, choice.shift, Reference::Bits8(0)).unwrap();
        if gsm::count(&text).is_none() {
            // An escape pair that a cut pushes over can cost two tables of equal septets one segment.
            let best = fewest_segments(&text, wish.languages);
            prop_assert!(usize::from(plan.segments) <= best + usize::from(best > 2));
        }
        for language in [choice.shift.locking, choice.shift.single].into_iter().flatten() {
            prop_assert!(wish.languages.has(language));
        }
    }
}
