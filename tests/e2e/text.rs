//! How text travels: national shift tables, carriers' own ways, previews that tell the truth, and what
//! is no text at all.

use heliograph::carrier::simulator::{Mo, Received};
use heliograph_tests::{Plan, Rig, eventually, sms};
use serde_json::{Value, json};

const TO: &str = "+447700900123";

async fn rig(carrier_extra: &str) -> Rig {
    Rig::start(Plan {
        carrier_extra: carrier_extra.to_owned(),
        ..Plan::default()
    })
    .await
}

fn with(mut message: Value, more: Value) -> Value {
    let (Value::Object(fields), Value::Object(more)) = (&mut message, more) else {
        panic!("two objects");
    };
    fields.extend(more);
    message
}

/// Previews the message, sends it, and holds what the carrier got against the preview. The parts in
/// their order, the preview, and the message once it is delivered.
async fn as_previewed(rig: &Rig, message: Value) -> (Vec<Received>, Value, Value) {
    let (status, preview) = rig
        .call("POST", "/v1/messages/preview", Some(message.clone()))
        .await;
    assert_eq!(status, 200, "{preview}");
    let before = rig.taken(0).len();
    let id = rig.submit(message).await;
    let message = rig.wait_for(&id, "delivered").await;
    let mut parts = rig.taken(0).split_off(before);
    parts.sort_by_key(|p| p.concat.map(|c| c.index));

    let rendering = &preview["rendering"];
    let segments = rendering["segments"].as_array().expect("segments");
    assert_eq!(segments.len(), parts.len(), "{preview}");
    assert_eq!(preview["segments"], message["segments"]);
    assert_eq!(preview["encoding"], message["encoding"]);
    for (segment, part) in segments.iter().zip(&parts) {
        assert_eq!(rendering["data_coding"], part.data_coding);
        assert_eq!(segment["octets"], part.short_message.len() / 2, "{segment}");
        let udh = segment["udh"].as_str().expect("hexadecimal");
        let header = udh.get(..4).unwrap_or_default();
        if part.esm_class & 0x40 == 0 {
            assert_eq!(udh, "");
        } else {
            // The reference is the message's own, so another one than the preview's.
            assert_eq!(
                part.short_message.get(2..2 + header.len()),
                Some(header),
                "{segment}"
            );
            assert!(part.short_message[2 + header.len()..].contains(&udh[udh.len() - 4..]));
        }
    }
    (parts, preview, message)
}

fn joined(parts: &[Received]) -> String {
    parts.iter().filter_map(|p| p.text.as_deref()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn turkish_travels_under_its_own_tables_both_ways() {
    let rig = rig("").await;
    let text = "Sayın müşterimiz, başvurunuz onaylandı. Şifrenizi kimseyle paylaşmayınız; iyi günler dileriz. ğ";
    // Not asked for, two segments in UCS-2.
    let (parts, preview, _) = as_previewed(&rig, sms(TO, text)).await;
    assert_eq!((parts.len(), parts[0].data_coding), (2, 8));
    assert_eq!(preview["rendering"]["beyond_gsm7"][0]["character"], "ı");

    let message = with(sms(TO, text), json!({ "languages": ["turkish"] }));
    let (parts, preview, message) = as_previewed(&rig, message).await;
    assert_eq!(preview["rendering"]["single_shift"], "turkish");
    assert_eq!(
        (parts.len(), parts[0].data_coding, parts[0].esm_class),
        (1, 0, 0x40)
    );
    assert_eq!(parts[0].short_message[..8], *"03240101");
    assert_eq!(parts[0].text.as_deref(), Some(text));
    assert_eq!(
        (&message["encoding"], &message["text"]),
        (&json!("gsm7"), &json!(text))
    );

    // Long: the tables stand in each part beside the reference.
    let long = text.repeat(3);
    let message = with(sms(TO, &long), json!({ "encoding": "national" }));
    let (parts, ..) = as_previewed(&rig, message).await;
    assert_eq!(parts.len(), 3);
    assert_eq!(joined(&parts), long);

    // From a phone, in two parts of which each names its table.
    for (index, octets) in [(1, "1b67612061"), (2, "1b73")] {
        rig.text_in(&Mo {
            from: "447700900123".to_owned(),
            to: "60777".to_owned(),
            short_message: format!("08000307020{index}240101{octets}"),
            data_coding: Some(0),
            esm_class: 0x40,
            ..Mo::default()
        })
        .await;
    }
    let inbound = eventually("the parts are joined", async || {
        rig.items("/v1/inbound").await.into_iter().next()
    })
    .await;
    assert_eq!(inbound["text"], "ğa aş");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_carrier_gets_long_messages_tied_together_its_way() {
    let text: String = ('a'..='z').cycle().take(320).collect();
    for (multipart, submissions, segments) in [
        ("udh8", vec![153, 153, 14], 3),
        ("udh16", vec![152, 152, 16], 3),
        ("sar", vec![153, 153, 14], 3),
        ("payload", vec![320], 3),
    ] {
        let rig = rig(&format!("multipart = \"{multipart}\"")).await;
        let (parts, preview, message) = as_previewed(&rig, sms(TO, &text)).await;
        assert_eq!(joined(&parts), text, "{multipart}");
        let lengths: Vec<_> = parts
            .iter()
            .map(|p| p.text.as_ref().map_or(0, String::len))
            .collect();
        assert_eq!(lengths, submissions, "{multipart}");
        assert_eq!(message["segments"], segments, "{multipart}");
        assert_eq!(preview["rendering"]["multipart"], multipart);
        let tags: Vec<_> = parts[0].tlvs.iter().map(|t| t.tag).collect();
        assert_eq!(tags.contains(&0x0424), multipart == "payload", "{tags:x?}");
        assert_eq!(tags.contains(&0x020C), multipart == "sar", "{tags:x?}");
        assert_eq!(
            message["receipts"].as_array().map(Vec::len),
            Some(parts.len())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_counted_for_the_carrier_that_takes_them() {
    // 306 septets are two parts under an 8-bit reference and three under a 16-bit one.
    let rig = rig("multipart = \"udh16\"").await;
    let (parts, preview, message) = as_previewed(&rig, sms(TO, &"a".repeat(306))).await;
    assert_eq!(
        (parts.len(), &preview["segments"], &message["segments"]),
        (3, &json!(3), &json!(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_whose_default_alphabet_is_latin_1_gets_and_sends_it() {
    let rig =
        rig("text = { default_alphabet = \"latin1\", latin1 = true, message_class = \"group_f\" }")
            .await;
    let (parts, preview, _) = as_previewed(&rig, sms(TO, "é@ñ[")).await;
    assert_eq!(
        (parts[0].data_coding, &*parts[0].short_message),
        (0, "e940f15b")
    );
    assert_eq!(preview["rendering"]["encoding"], "latin1");
    let (parts, ..) = as_previewed(&rig, sms(TO, "façade")).await;
    assert_eq!(
        (parts[0].data_coding, &*parts[0].short_message),
        (3, "6661e7616465")
    );
    let (parts, ..) = as_previewed(&rig, sms(TO, "5 €")).await;
    assert_eq!(parts[0].data_coding, 8);
    let (parts, ..) = as_previewed(&rig, with(sms(TO, "é"), json!({ "flash": true }))).await;
    assert_eq!(
        (parts[0].data_coding, &*parts[0].short_message),
        (0xF0, "05")
    );

    rig.text_in(&Mo {
        from: "447700900123".to_owned(),
        to: "60777".to_owned(),
        short_message: "63e740".to_owned(),
        data_coding: Some(0),
        ..Mo::default()
    })
    .await;
    let inbound = eventually("the text", async || {
        rig.items("/v1/inbound").await.into_iter().next()
    })
    .await;
    assert_eq!(inbound["text"], "cç@");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_rewritten_where_message_or_carrier_ask_and_it_saves() {
    let rig = rig("text = { transliterate = true }").await;
    let (parts, preview, message) = as_previewed(&rig, sms(TO, "“It’s…” naïve")).await;
    assert_eq!(parts[0].text.as_deref(), Some("\"It's...\" naive"));
    assert_eq!(parts[0].data_coding, 0);
    assert_eq!(preview["rendering"]["rewritten"]["changes"][1]["to"], "'");
    assert_eq!(
        message["text"], "“It’s…” naïve",
        "the record keeps what was submitted"
    );
    let no = with(sms(TO, "It’s"), json!({ "transliterate": false }));
    let (parts, ..) = as_previewed(&rig, no).await;
    assert_eq!(
        (parts[0].data_coding, parts[0].text.as_deref()),
        (8, Some("It’s"))
    );
    let problem = rig
        .refused(with(sms(TO, "hi 😀"), json!({ "encoding": "gsm7" })))
        .await;
    assert_eq!(problem["errors"][0]["pointer"], "/text");
    let detail = problem["errors"][0]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("U+1F600 at character 3"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_and_data_for_ports_are_cut_with_their_ports() {
    let rig = rig("").await;
    let push = json!({ "to": TO, "from": "60777", "push": {
        "url": "http://www.example.com/news", "text": "n".repeat(120), "action": "signal-high"
    } });
    let (parts, preview, message) = as_previewed(&rig, push).await;
    assert_eq!(preview["rendering"]["encoding"], "octets");
    assert_eq!(
        (parts.len(), parts[0].data_coding, &message["segments"]),
        (2, 4, &json!(2))
    );
    for part in &parts {
        // 11 octets of header: the reference, then ports 2948 and 9200.
        assert_eq!(part.short_message[..2], *"0b");
        assert_eq!(part.short_message[12..24], *"05040b8423f0");
    }
    let silent = with(sms(TO, "x"), json!({ "protocol_id": 64 }));
    let problem = rig.refused(silent).await;
    assert_eq!(problem["errors"][0]["pointer"], "/protocol_id", "{problem}");
}
