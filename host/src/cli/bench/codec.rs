//! The pure pieces of a message's way, alone: PDUs, receipts, text. Medians over batches, because a
//! clock costs as much as one call.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use crate::domain::Body as Content;
use crate::domain::receipt::{Receipt, ReceiptTlvs};
use crate::domain::text::segment;
use crate::smpp::pdu::{Body, Pdu, Sm, TlvBuf, decode, encode, tag};
use crate::store::{SealingKey, Seals};

const BATCH: u32 = 1_000;

/// Nanoseconds of one call, by what is called.
pub fn measure(batches: u32) -> Result<BTreeMap<&'static str, f64>, String> {
    let mut figures = BTreeMap::new();
    let mut tlvs = TlvBuf::new();
    tlvs.push(tag::USER_MESSAGE_REFERENCE, &[1, 2])
        .map_err(|_| "a TLV of two octets")?;
    let text = super::load::text(1);
    let sm = Sm {
        source_addr_ton: 5,
        source_addr: b"Heliograph",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: b"447400000001",
        registered_delivery: 1,
        validity_period: b"000003000000000R",
        short_message: text.as_bytes(),
        tlvs: tlvs.as_tlvs(),
        ..Sm::default()
    };
    let mut octets = Vec::with_capacity(512);
    encode(&Pdu::request(1, Body::SubmitSm(sm)), &mut octets).map_err(|e| format!("{e:?}"))?;
    let mut out = Vec::with_capacity(512);
    let mut time = |name, call: &mut dyn FnMut()| {
        figures.insert(name, median_ns(batches, call));
    };
    time("submit_sm encode", &mut || {
        out.clear();
        let _ = black_box(encode(
            &Pdu::request(1, Body::SubmitSm(black_box(sm))),
            &mut out,
        ));
    });
    time("submit_sm decode", &mut || {
        let _ = black_box(decode(black_box(&octets)));
    });
    let receipt = b"id:0123456789 sub:001 dlvrd:001 submit date:2611261200 done date:2611261201 stat:DELIVRD err:000 text:Your parcel";
    time("receipt parse", &mut || {
        let _ = black_box(Receipt::parse(black_box(receipt), &ReceiptTlvs::default()));
    });
    let short = Content::Text(text.clone());
    time("text of one segment", &mut || {
        let _ = black_box(segment(black_box(&short), 1));
    });
    let long = Content::Text(format!("{text} ").repeat(4) + "Grüße, 再见 😀");
    time("UCS-2 text of seven segments", &mut || {
        let _ = black_box(segment(black_box(&long), 1));
    });
    let key = SealingKey {
        id: "bench".to_owned(),
        octets: [7; 32],
    };
    let seals = Seals::new(&[key])?;
    // A lone message's journal entry, and a block of records.
    for (seal, open, length) in [
        ("seal 500 octets", "open 500 octets", 500),
        ("seal 8 KiB", "open 8 KiB", 8 << 10),
    ] {
        let plain = vec![b'x'; length];
        let mut sealed = Vec::with_capacity(length + 64);
        time(seal, &mut || {
            sealed.clear();
            let _ = black_box(seals.seal(b"place", black_box(&plain), &mut sealed));
        });
        time(open, &mut || {
            let _ = black_box(seals.open(b"place", black_box(&sealed)));
        });
    }
    Ok(figures)
}

fn median_ns(batches: u32, call: &mut dyn FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..batches.max(1))
        .map(|_| {
            let start = Instant::now();
            for _ in 0..BATCH {
                call();
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
