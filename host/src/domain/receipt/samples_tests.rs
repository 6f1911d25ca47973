//! Receipts as vendors of the field write them, one row each: what came over the wire, and what it
//! says. A new deviation gets a row here before it gets code.

use super::*;

/// 2024-03-15 10:22:00 UTC, and three seconds later.
const DONE: u64 = 1_710_498_120_000;
const DONE_3S: u64 = DONE + 3_000;

struct Sample {
    who: &'static str,
    text: &'static [u8],
    id: &'static str,
    state: PartState,
    error: &'static str,
    done: Option<u64>,
}

#[rustfmt::skip] // A table.
const SAMPLES: &[Sample] = {
    use PartState::{Delivered, Enroute, Expired, Rejected, Undeliverable, Unknown};
    const fn row(who: &'static str, text: &'static [u8], id: &'static str, state: PartState, error: &'static str, done: Option<u64>) -> Sample {
        Sample { who, text, id, state, error, done }
    }
    &[
        row("appendix B", b"id:1234567890 sub:001 dlvrd:001 submit date:2403151021 done date:2403151022 stat:DELIVRD err:000 text:Your code is 1234", "1234567890", Delivered, "000", Some(DONE)),
        row("Kannel", b"id:f9c3e1a2-77b4-4c9e-8d1f-0a1b2c3d4e5f sub:001 dlvrd:001 submit date:240315102101 done date:240315102203 stat:DELIVRD err:000 text:", "f9c3e1a2-77b4-4c9e-8d1f-0a1b2c3d4e5f", Delivered, "000", Some(DONE_3S)),
        row("Jasmin", b"id:0b2f7e8d-4c3a-4f5b-9e6d-7a8b9c0d1e2f submit date:2403151021 done date:2403151022 stat:UNDELIV err:034 text:-", "0b2f7e8d-4c3a-4f5b-9e6d-7a8b9c0d1e2f", Undeliverable, "034", Some(DONE)),
        row("no sub, no dlvrd", b"id:77 submit date:2403151021 done date:2403151022 stat:EXPIRED err:027", "77", Expired, "027", Some(DONE)),
        row("no dates", b"id:77 sub:001 dlvrd:000 stat:REJECTD err:011", "77", Rejected, "011", None),
        row("no err", b"id:77 sub:001 dlvrd:000 done date:2403151022 stat:UNKNOWN", "77", Unknown, "", Some(DONE)),
        row("capitals", b"ID:0A1B2C SUB:001 DLVRD:001 SUBMIT DATE:2403151021 DONE DATE:2403151022 STAT:DELIVRD ERR:0 TEXT:HELLO", "0A1B2C", Delivered, "0", Some(DONE)),
        row("spaces after colons", b"id: 77 sub: 001 dlvrd: 001 submit date: 2403151021 done date: 2403151022 stat: DELIVRD err: 000 text: ", "77", Delivered, "000", Some(DONE)),
        row("underscored dates", b"id:77 sub:1 dlvrd:1 submit_date:2403151021 done_date:2403151022 stat:DELIVRD err:0 text:", "77", Delivered, "0", Some(DONE)),
        row("dates run together", b"id:77 sub:001 dlvrd:001 submitdate:20240315102100 donedate:20240315102200 stat:DELIVRD err:000", "77", Delivered, "000", Some(DONE)),
        row("dates with dashes", b"id:77 submit date:2024-03-15 10:21:00 done date:2024-03-15 10:22:00 stat:DELIVRD err:000", "77", Delivered, "000", Some(DONE)),
        row("ISO dates", b"id:77 done date:2024-03-15T10:22:03Z stat:DELIVRD err:000", "77", Delivered, "000", Some(DONE_3S)),
        row("dates with parts of a second", b"id:77 done date:2024/03/15 10:22:03.250 stat:DELIVRD err:000", "77", Delivered, "000", Some(DONE_3S)),
        row("absolute time of 7.1.1", b"id:77 sub:001 dlvrd:001 done date:240315122200008+ stat:DELIVRD err:000", "77", Delivered, "000", Some(DONE)),
        row("wrong dates", b"id:77 sub:001 dlvrd:001 submit date:0000000000 done date:9999999999 stat:DELIVRD err:000", "77", Delivered, "000", None),
        row("commas", b"id:77,sub:001,dlvrd:001,done date:2403151022,stat:DELIVRD,err:000,text:", "77", Delivered, "000", Some(DONE)),
        row("semicolons", b"id:77;stat:UNDELIV;err:21;done date:2403151022", "77", Undeliverable, "21", Some(DONE)),
        row("bars", b"id:77|stat:DELIVRD|err:000|", "77", Delivered, "000", None),
        row("quotes", b"id:\"77\" stat:\"DELIVRD\" err:\"000\"", "77", Delivered, "000", None),
        row("lines", b"id:77\r\nsub:001\r\ndlvrd:001\r\ndone date:2403151022\r\nstat:DELIVRD\r\nerr:000\r\n", "77", Delivered, "000", Some(DONE)),
        row("state first", b"stat:DELIVRD err:000 id:77 done date:2403151022", "77", Delivered, "000", Some(DONE)),
        row("a NUL at the end", b"id:77 stat:DELIVRD err:000\0", "77", Delivered, "000", None),
        row("a header before it", b"\x05\x00\x03\x2a\x01\x01id:77 stat:DELIVRD err:000", "77", Delivered, "000", None),
        row("fields of its own", b"id:77 sub:001 dlvrd:001 msisdn:447700900123 mccmnc:23415 price:0.012 done date:2403151022 stat:DELIVRD err:000", "77", Delivered, "000", Some(DONE)),
        row("an id with colons", b"id:node1:12:ab stat:DELIVRD err:000", "node1:12:ab", Delivered, "000", None),
        row("a hexadecimal err", b"id:77 stat:UNDELIV err:0x45", "77", Undeliverable, "0x45", None),
        row("an err in words", b"id:77 stat:UNDELIV err:ABSENT_SUBSCRIBER", "77", Undeliverable, "ABSENT_SUBSCRIBER", None),
        row("error for err", b"id:77 stat:UNDELIV error:27", "77", Undeliverable, "27", None),
        row("status for stat", b"id:77 status:DELIVRD err:000", "77", Delivered, "000", None),
        row("the number of message_state", b"id:77 stat:5 err:001", "77", Undeliverable, "001", None),
        row("the whole word", b"id:77 stat:DELIVERED err:000", "77", Delivered, "000", None),
        row("deleted", b"id:77 stat:DELETED err:000", "77", Undeliverable, "000", None),
        row("failed", b"id:77 stat:FAILED err:254", "77", Undeliverable, "254", None),
        row("accepted is on the way", b"id:77 stat:ACCEPTD err:000", "77", Enroute, "000", None),
        row("enroute", b"id:77 stat:ENROUTE err:027", "77", Enroute, "027", None),
        row("Kannel's buffered", b"id:77 stat:BUFFRED err:000", "77", Enroute, "000", None),
        row("Kannel's other buffered", b"id:77 stat:BUFFERD err:000", "77", Enroute, "000", None),
        row("acknowledged", b"id:77 stat:ACKED err:000", "77", Enroute, "000", None),
        row("the text of a message that looks like a receipt", b"id:77 stat:UNDELIV err:001 text:id:88 stat:DELIVRD err:000", "77", Undeliverable, "001", None),
        row("capital Text", b"id:77 sub:001 dlvrd:001 submit date:2403151021 done date:2403151022 stat:DELIVRD err:000 Text:stat:EXPIRED", "77", Delivered, "000", Some(DONE)),
        row("UCS-2", b"\0i\0d\0:\x007\x007\0 \0s\0t\0a\0t\0:\0D\0E\0L\0I\0V\0R\0D", "77", Delivered, "", None),
    ]
};

#[test]
fn every_vendors_text_is_read() {
    for sample in SAMPLES {
        let read = Receipt::parse(sample.text, &ReceiptTlvs::default());
        let expected = Receipt {
            id: sample.id.to_owned(),
            report: Report {
                state: sample.state,
                error: sample.error.to_owned(),
                network_type: None,
                done_at: sample.done.map(Timestamp),
            },
            evidence: Evidence::default(),
        };
        assert_eq!(read, Ok(expected), "{}", sample.who);
    }
}

#[test]
fn network_error_code_is_read_in_every_width() {
    let read = |code: &[u8], text: &str| {
        let tlvs = ReceiptTlvs {
            receipted_message_id: Some(b"77\0"),
            message_state: Some(5),
            network_error_code: Some(code),
        };
        let report = Receipt::parse(text.as_bytes(), &tlvs).unwrap().report;
        (report.error, report.network_type)
    };
    let code = |error: &str, network_type| (error.to_owned(), network_type);
    assert_eq!(read(&[3, 0, 34], ""), code("034", Some(3)));
    assert_eq!(read(&[1, 1, 0], "err:069"), code("256", Some(1)));
    assert_eq!(read(&[3, 0, 0], "err:069"), code("069", None), "none");
    assert_eq!(read(&[3, 0, 0], ""), code("000", Some(3)));
    assert_eq!(read(&[0, 27], ""), code("027", None), "without a type");
    assert_eq!(read(b"027", ""), code("027", None), "as digits");
    assert_eq!(read(&[3], "err:1"), code("1", None), "too short");
    assert_eq!(read(&[9; 12], "err:1"), code("1", None), "too long");
}

#[test]
fn an_intermediate_notification_is_on_the_way_whatever_it_says() {
    let text = b"id:77 stat:DELIVRD err:000";
    let receipt = Receipt::parse(text, &ReceiptTlvs::default()).unwrap();
    assert_eq!(receipt.into_intermediate().report.state, PartState::Enroute);
}

#[test]
fn sixty_kibioctets_are_read_no_further_than_a_receipt_goes() {
    let mut text = b"id:77 stat:DELIVRD err:000 text:".to_vec();
    text.resize(60 << 10, 0xFF);
    let receipt = Receipt::parse(&text, &ReceiptTlvs::default()).unwrap();
    assert_eq!(receipt.id, "77");
    let mut late = vec![b' '; 60 << 10];
    late.extend_from_slice(b"id:77 stat:DELIVRD");
    assert_eq!(
        Receipt::parse(&late, &ReceiptTlvs::default()),
        Err(NotAReceipt::NoId)
    );
}
