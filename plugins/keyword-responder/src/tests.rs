//! Whole answers: configuration and message in, actions out.

use heliograph_plugin::testing::{FakeHost, alphanumeric, context, inbound};
use heliograph_plugin::{Body, Octets, Scope};
use serde_json::{Value, json};

use super::*;

const HANDSET: &str = "+15005550006";

fn configure(config: Value) -> Result<Responder, String> {
    Responder::new(serde_json::from_value(config).map_err(|error| error.to_string())?)
}

/// One line for each action.
fn answer_to(responder: &Responder, inbound: &Inbound) -> Vec<String> {
    let scope = |scope: &Scope| match scope {
        Scope::Number => "number",
        Scope::Account => "account",
        Scope::Everything => "everything",
    };
    let actions = responder.receive(inbound, &context());
    actions
        .iter()
        .map(|action| match action {
            Action::Reply(text) => format!("reply {text}"),
            Action::OptOut(reach) => format!("opt-out {}", scope(reach)),
            Action::OptIn(reach) => format!("opt-in {}", scope(reach)),
            Action::Label(label) => format!("label {label}"),
            Action::Consume => "consume".to_owned(),
        })
        .collect()
}

fn answer(config: Value, text: &str) -> Vec<String> {
    let _host = FakeHost::new();
    answer_to(&configure(config).unwrap(), &inbound(HANDSET, text))
}

/// The same from a handset that has opted out.
fn answer_opted_out(config: Value, text: &str) -> Vec<String> {
    let _host = FakeHost::new();
    let inbound = Inbound {
        opted_out: true,
        ..inbound(HANDSET, text)
    };
    answer_to(&configure(config).unwrap(), &inbound)
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn stop_opts_out_labels_and_confirms() {
    assert_eq!(
        answer(json!({}), "STOP"),
        [
            "opt-out number",
            "label opt-out",
            "reply You are unsubscribed and will receive no more messages from 61616. Reply START to resubscribe.",
        ]
    );
}

#[test]
fn the_words_that_the_platforms_publish_are_all_known() {
    let opt_out = [
        // Twilio
        "STOP",
        "STOPALL",
        "UNSUBSCRIBE",
        "CANCEL",
        "END",
        "QUIT",
        "REVOKE",
        "OPTOUT", // French
        "ARRET",
        "ARRETE",
        "ARRETT", // AWS
        "OPT-OUT",
        "REMOVE",
        "TD", // Telnyx
        "STOP ALL",
    ];
    for word in opt_out {
        for text in [word.to_owned(), word.to_lowercase(), format!(" {word}! ")] {
            assert_eq!(answer(json!({}), &text)[0], "opt-out number", "{text}");
        }
    }
    for word in ["START", "YES", "UNSTOP"] {
        assert_eq!(
            answer_opted_out(json!({}), word)[0],
            "opt-in number",
            "{word}"
        );
    }
    for word in ["HELP", "INFO"] {
        assert_eq!(answer(json!({}), word)[0], "label help", "{word}");
    }
}

#[test]
fn every_usual_opt_out_word_is_understood() {
    for text in [
        "stop",
        "Stop.",
        "STOPALL",
        "stop all",
        "UNSUBSCRIBE",
        "cancel",
        "End",
        "QUIT",
        "revoke",
        "OptOut",
        "OPT-OUT",
        "opt out",
        "REMOVE",
        "TD",
        "ARRET",
        "Arrêt",
        "ARRÊTÉ",
        "arretez",
        "\"STOP\"",
        "S T O P",
        "s.t.o.p",
        "please stop",
        "STOP PLEASE!!",
        "stop texting me",
        "Stop, thanks",
        "abmelden",
        "BAJA",
        "Parar",
        "sair",
        "basta",
        "AFMELDEN",
        "stopp",
        "İPTAL",
        "koniec",
        "ｓｔｏｐ",
        "Stop sending, please",
        "Don't text me",
    ] {
        let actions = answer(json!({}), text);
        assert_eq!(
            actions.first().map(String::as_str),
            Some("opt-out number"),
            "{text}"
        );
    }
}

#[test]
fn a_sentence_with_stop_in_it_is_no_opt_out() {
    for text in [
        "I will stop by later",
        "Stop by the shop",
        "When does it end?",
        "cancel my appointment on Monday",
        "nonstop",
        "Is this the bus stop",
        "fine",
        "red",
        "no",
        "",
        "   ",
        "🛑",
        "Please",
    ] {
        assert_eq!(answer(json!({}), text), none(), "{text}");
    }
}

#[test]
fn a_message_may_begin_with_the_word_where_asked() {
    assert_eq!(
        answer(json!({"match": "start"}), "STOP it, you lot")[0],
        "opt-out number"
    );
    assert_eq!(
        answer(json!({"match": "start"}), "Stop all of this at once")[0],
        "opt-out number"
    );
    assert_eq!(answer(json!({"match": "start"}), "stopping by"), none());
}

#[test]
fn a_long_text_that_begins_politely_is_not_cut_into_a_keyword() {
    let text = format!("stop {}and another thing", "please ".repeat(40));
    assert_eq!(answer(json!({}), &text), none());
}

#[test]
fn a_second_stop_is_recorded_and_not_answered() {
    assert_eq!(
        answer_opted_out(json!({}), "STOP"),
        ["opt-out number", "label opt-out"]
    );
}

#[test]
fn start_opts_in_whom_stop_opted_out_and_nobody_else() {
    for text in ["START", "Yes", "unstop", "alta", "oui", "ja", "evet"] {
        assert_eq!(
            answer_opted_out(json!({}), text)[..2],
            ["opt-in number", "label opt-in"],
            "{text}"
        );
        assert_eq!(answer(json!({}), text), none(), "{text}");
    }
    assert_eq!(
        answer(json!({"always_opt_in": true}), "START")[0],
        "opt-in number"
    );
}

#[test]
fn help_is_answered_without_a_wish() {
    let actions = answer(json!({}), "Help!");
    assert_eq!(actions[0], "label help");
    assert!(actions[1].starts_with("reply Reply STOP to unsubscribe"));
    assert_eq!(actions.len(), 2);
}

#[test]
fn the_reply_is_in_the_language_of_the_word() {
    assert!(answer(json!({}), "ABMELDEN")[2].contains("Sie sind abgemeldet"));
    assert!(answer(json!({}), "ayuda")[1].contains("Responda BAJA"));
    assert!(answer(json!({"reply_language": "fr"}), "STOP")[2].contains("Désabonnement"));
}

#[test]
fn words_of_other_languages_are_unknown_where_languages_are_chosen() {
    assert_eq!(answer(json!({"languages": ["en"]}), "abmelden"), none());
    assert_eq!(
        answer(json!({"languages": []}), "STOP")[0],
        "opt-out number"
    );
}

#[test]
fn every_built_in_reply_fits_one_segment_and_names_the_number() {
    for language in Language::ALL {
        for request in [Request::OptOut, Request::OptIn, Request::Help] {
            let text = words::built_in(language, request).replace("{number}", "+15005550006");
            assert!(
                text.contains("+15005550006") && text.chars().count() <= 140,
                "{text}"
            );
            let is_gsm7 = |c: char| {
                c.is_ascii() && !"`[]{}\\^|~".contains(c) || "àèéìòùÇØøÅåÆæßÉÄÖÑÜäöñü".contains(c)
            };
            assert!(text.chars().all(is_gsm7), "{text}");
        }
    }
}

#[test]
fn replies_are_configured_by_language_and_number_and_may_be_empty() {
    let config = json!({
        "brand": "Acme",
        "replies": {"en": {"opt_out": "{brand}: bye from {number}", "help": ""}},
        "numbers": [{
            "numbers": ["+61616"], "language": "de", "brand": "Acme DE", "scope": "account", "replies": {"help": "Ruf an"},
        }],
    });
    let mut elsewhere = inbound(HANDSET, "STOP");
    elsewhere.recipient.value = "70000".to_owned();
    let responder = configure(config).unwrap();
    let _host = FakeHost::new();
    assert_eq!(
        answer_to(&responder, &elsewhere)[2],
        "reply Acme: bye from 70000"
    );
    elsewhere.body = Body::Text("HELP".to_owned());
    assert_eq!(answer_to(&responder, &elsewhere), ["label help"]);
    let here = answer_to(&responder, &inbound(HANDSET, "STOP"));
    assert_eq!(here[0], "opt-out account");
    assert!(here[2].starts_with("reply Acme DE: Sie sind abgemeldet"));
    assert_eq!(
        answer_to(&responder, &inbound(HANDSET, "HELP"))[1],
        "reply Ruf an"
    );
}

#[test]
fn scope_and_consumption_follow_the_setting() {
    let actions = answer(json!({"scope": "everything", "consume": true}), "STOP");
    assert_eq!(actions[0], "opt-out everything");
    assert_eq!(actions.last().unwrap(), "consume");
}

#[test]
fn an_ignored_word_is_left_to_the_application() {
    assert_eq!(answer(json!({"ignore": ["CANCEL"]}), "cancel"), none());
    let own =
        json!({"ignore": ["cancel"], "keywords": [{"words": ["cancel"], "label": "appointment"}]});
    assert_eq!(answer(own, "Cancel"), ["label appointment"]);
}

#[test]
fn further_words_are_understood() {
    let config = json!({"opt_out_words": ["Leave me alone"], "help_words": ["?? menu"]});
    assert_eq!(
        answer(config.clone(), "LEAVE me alone!")[0],
        "opt-out number"
    );
    assert_eq!(answer(config, "Menu")[0], "label help");
}

#[test]
fn an_own_keyword_replies_labels_and_consumes() {
    let config = json!({"keywords": [
        {"words": ["PIZZA", "menú del día"], "reply": "Today: Margherita. {number}", "label": "menu", "consume": true},
        {"words": ["JOIN"], "match": "start", "wish": "opt_in", "numbers": ["61616"]},
        {"words": ["vote"], "match": "start", "label": "vote", "numbers": ["70000"]},
    ]});
    assert_eq!(
        answer(config.clone(), "pizza?"),
        ["label menu", "reply Today: Margherita. 61616", "consume"]
    );
    assert_eq!(
        answer(config.clone(), "Menu del dia"),
        ["label menu", "reply Today: Margherita. 61616", "consume"]
    );
    assert_eq!(answer(config.clone(), "pizza for two"), none());
    assert_eq!(answer(config.clone(), "join club 7"), ["opt-in number"]);
    assert_eq!(answer(config, "vote 3"), none());
}

#[test]
fn an_own_keyword_stands_above_help_and_start_words() {
    let config = json!({"keywords": [{"words": ["INFO"], "reply": "Open 9 to 5"}]});
    assert_eq!(answer(config, "info"), ["reply Open 9 to 5"]);
}

#[test]
fn one_keyword_may_mean_different_things_at_different_numbers() {
    let config = json!({"keywords": [
        {"words": ["menu"], "label": "a", "numbers": ["61616"]},
        {"words": ["menu"], "label": "b", "numbers": ["+70000"]},
        {"words": ["menu"], "label": "c"},
    ]});
    assert_eq!(answer(config.clone(), "menu"), ["label a"]);
    let mut elsewhere = inbound(HANDSET, "menu");
    elsewhere.recipient.value = "70000".to_owned();
    assert_eq!(
        answer_to(&configure(config).unwrap(), &elsewhere),
        ["label b"]
    );
}

#[test]
fn machines_get_no_answer_but_their_wish_counts() {
    let _host = FakeHost::new();
    let responder = configure(json!({})).unwrap();
    let mut machine = inbound(HANDSET, "STOP");
    for originator in [
        alphanumeric("AutoReply"),
        inbound("12345", "").originator,
        machine.recipient.clone(),
    ] {
        machine.originator = originator;
        assert_eq!(
            answer_to(&responder, &machine),
            ["opt-out number", "label opt-out"]
        );
    }
}

#[test]
fn replies_to_one_handset_are_limited_by_the_hour() {
    let host = FakeHost::new();
    let responder = configure(json!({"max_replies_per_hour": 2})).unwrap();
    let replies = |from: &str| answer_to(&responder, &inbound(from, "HELP")).len() - 1;
    assert_eq!(
        [replies(HANDSET), replies(HANDSET), replies(HANDSET)],
        [1, 1, 0]
    );
    assert_eq!(replies("+15005550007"), 1);
    host.advance_seconds(3_601);
    assert_eq!(replies(HANDSET), 1);
}

#[test]
fn without_a_limit_no_state_is_kept() {
    let host = FakeHost::new();
    let responder = configure(json!({"max_replies_per_hour": 0})).unwrap();
    for _ in 0..20 {
        assert_eq!(answer_to(&responder, &inbound(HANDSET, "HELP")).len(), 2);
    }
    assert_eq!(host.state("replies/61616/15005550006"), None);
}

#[test]
fn bodies_without_text_are_left_alone() {
    let responder = configure(json!({})).unwrap();
    for body in [
        Body::Withheld(4),
        Body::Binary(Octets {
            user_data_header: vec![],
            data: b"STOP".to_vec(),
        }),
    ] {
        let inbound = Inbound {
            body,
            ..inbound(HANDSET, "")
        };
        assert_eq!(answer_to(&responder, &inbound), none());
    }
}

#[test]
fn faults_of_the_configuration_are_named() {
    for (config, names) in [
        (
            json!({"keywords": [{"words": ["Stop!"], "reply": "no"}]}),
            ["`stop`", "`ignore`"],
        ),
        (
            json!({"keywords": [{"words": ["menu"]}]}),
            ["`menu`", "does nothing"],
        ),
        (
            json!({"keywords": [{"words": ["menu"], "label": "x".repeat(65)}]}),
            ["`label`", "64"],
        ),
        (
            json!({"keywords": [{"words": [], "reply": "x"}]}),
            ["`keywords`", "`words`"],
        ),
        (
            json!({"keywords": [{"words": ["a b", "A-B"], "reply": "x"}]}),
            ["`ab`", "twice"],
        ),
        (
            json!({"keywords": [{"words": ["x1"], "label": "a"}, {"words": ["x1"], "label": "b"}]}),
            ["`x1`", "twice"],
        ),
        (
            json!({"opt_out_words": ["!!!"]}),
            ["`opt_out_words`", "`!!!`"],
        ),
        (
            json!({"help_words": ["x".repeat(61)]}),
            ["`help_words`", "60"],
        ),
        (json!({"ignore": ["banana"]}), ["`ignore`", "`banana`"]),
        (json!({"languages": ["xx"]}), ["xx", "unknown variant"]),
        (json!({"keyword": []}), ["keyword", "unknown field"]),
    ] {
        let error = configure(config).err().unwrap();
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
    }
}

#[test]
fn hostile_texts_are_read_without_panic() {
    let _host = FakeHost::new();
    let responder = configure(json!({"match": "start"})).unwrap();
    for text in [
        "\0",
        "\u{10ffff}",
        "ß",
        "İİİİ",
        &"ß ".repeat(5_000),
        &"stop ".repeat(5_000),
        &" ".repeat(40_000),
        &"ｓ".repeat(300),
    ] {
        answer_to(&responder, &inbound(HANDSET, text));
    }
}
