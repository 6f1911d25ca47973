//! The order of carriers: who stands ready, what each one's score is, how near-equals share the traffic, and the
//! sentence that explains it. It knows no prices' origin and no refusals; it is handed candidates and sorts them.

use heliograph_plugin::{Attempt, Carrier, Outcome, Reason};

use crate::config::Weights;
use crate::policy::CarrierPolicy;

/// Whether a carrier can take this message now, best first. Up to `TriedHere` it belongs into a plan; the rest only
/// when there is no such carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Ready,
    /// An earlier attempt of this message failed here; another may not.
    TriedHere,
    /// Delivers less than the traffic class asks for.
    Poor,
    Saturated,
    /// This carrier refused this message for good.
    RefusedHere,
    Down,
}

impl Standing {
    pub fn is_usable(self) -> bool {
        self <= Standing::TriedHere
    }

    fn word(self) -> &'static str {
        match self {
            Standing::Ready => "ready",
            Standing::TriedHere => "failed before",
            Standing::Poor => "delivers too little",
            Standing::Saturated => "saturated",
            Standing::RefusedHere => "refused this message",
            Standing::Down => "down",
        }
    }
}

/// When a carrier is more than busy.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    pub min_headroom: f32,
    pub max_queued: u32,
    pub min_delivered_ratio: Option<f32>,
}

pub fn standing(carrier: &Carrier, attempts: &[Attempt], thresholds: Thresholds) -> Standing {
    if !carrier.connected {
        return Standing::Down;
    }
    let earlier = attempts
        .iter()
        .filter(|attempt| attempt.carrier == carrier.id)
        .map(|attempt| match attempt.outcome {
            Outcome::PermanentFailure(_) | Outcome::Undelivered(_) => Standing::RefusedHere,
            Outcome::TemporaryFailure(_) | Outcome::TimedOut | Outcome::Unavailable => {
                Standing::TriedHere
            }
            Outcome::Sent | Outcome::Throttled => Standing::Ready,
        })
        .max()
        .unwrap_or(Standing::Ready);
    // A headroom that is no number counts as none.
    let has_headroom = carrier.headroom >= thresholds.min_headroom;
    let load = if has_headroom && carrier.queued <= thresholds.max_queued {
        Standing::Ready
    } else {
        Standing::Saturated
    };
    let quality = match (carrier.delivered_ratio, thresholds.min_delivered_ratio) {
        (Some(ratio), Some(floor)) if ratio < floor => Standing::Poor,
        _ => Standing::Ready,
    };
    earlier.max(load).max(quality)
}

/// A carrier that may carry the message.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub carrier: &'a Carrier,
    pub policy: &'a CarrierPolicy,
    pub price: Option<u64>,
    pub standing: Standing,
    /// Lower is better. Set by `order`.
    pub score: f32,
}

/// By what candidates of the same standing are ordered.
#[derive(Clone, Copy, Debug)]
pub enum Ranking {
    /// Nothing is known that one could weigh: most headroom first.
    Headroom,
    Score {
        weights: Weights,
        assumed_delivered_ratio: f32,
        assumed_receipt_ms: u32,
        spread: f32,
    },
}

/// A minute of median receipt latency is as bad as it gets.
const SLOW_RECEIPT_MS: f32 = 60_000.0;

/// Sorts the candidates: by standing, then by `ranking`. `random` decides among near-equals.
pub fn order(candidates: &mut [Candidate<'_>], ranking: Ranking, random: u64) {
    match ranking {
        Ranking::Headroom => candidates.sort_by(|a, b| {
            a.standing
                .cmp(&b.standing)
                .then(b.carrier.headroom.total_cmp(&a.carrier.headroom))
        }),
        Ranking::Score {
            weights,
            assumed_delivered_ratio,
            assumed_receipt_ms,
            spread,
        } => {
            let lowest = candidates
                .iter()
                .filter_map(|c| c.price)
                .min()
                .unwrap_or(0)
                .max(1);
            for candidate in candidates.iter_mut() {
                let dearer = candidate
                    .price
                    .map_or(0.0, |p| (p as f32 / lowest as f32 - 1.0).max(0.0));
                let ratio = candidate
                    .carrier
                    .delivered_ratio
                    .unwrap_or(assumed_delivered_ratio);
                let receipt_ms = candidate
                    .carrier
                    .p50_receipt_ms
                    .unwrap_or(assumed_receipt_ms);
                candidate.score = weights.price * dearer
                    + weights.delivery * (1.0 - ratio.clamp(0.0, 1.0))
                    + weights.latency * (receipt_ms as f32 / SLOW_RECEIPT_MS).min(1.0);
            }
            candidates.sort_by(|a, b| {
                a.standing
                    .cmp(&b.standing)
                    .then(a.score.total_cmp(&b.score))
            });
            let Some(best) = candidates.first().copied() else {
                return;
            };
            let near = candidates
                .iter()
                .take_while(|c| c.standing == best.standing && c.score <= best.score + spread)
                .count();
            share(&mut candidates[..near], random);
        }
    }
}

/// A weighted random permutation: each place goes to one of those left, with a chance in proportion to its weight.
/// Those of weight 0 come last, in the order in which they were.
fn share(group: &mut [Candidate<'_>], random: u64) {
    let mut state = random;
    for place in 0..group.len() {
        let total: u64 = group[place..]
            .iter()
            .map(|c| u64::from(c.policy.weight))
            .sum();
        if total == 0 {
            return;
        }
        state = split_mix(state);
        let mut ticket = state % total;
        let chosen = group[place..].iter().position(|c| {
            let weight = u64::from(c.policy.weight);
            let hit = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            hit
        });
        if let Some(chosen) = chosen {
            group[place..=place + chosen].rotate_right(1);
        }
    }
}

/// SplitMix64: spreads one random number over as many draws as there are places.
fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One sentence for the trace: what the plan's order was chosen by, the hops, and who was left out.
pub fn explain(
    hops: &[Candidate<'_>],
    left_out: &[Candidate<'_>],
    excluded: &[(&str, &'static str)],
    ranking: Ranking,
) -> Reason {
    let mut reason = Reason::with_capacity(128);
    let count = hops.len() + left_out.len();
    let Some(first) = hops.first() else {
        return reason;
    };
    let cheapest =
        hops.iter().chain(left_out).all(|c| c.price >= first.price) && first.price.is_some();
    let (by, quality) = match ranking {
        Ranking::Headroom => ("most headroom of ", false),
        Ranking::Score { .. } if cheapest => ("cheapest of ", false),
        Ranking::Score { .. } => ("best of ", true),
    };
    if !first.standing.is_usable() {
        reason.text("none is ready, ");
    }
    reason.text(by).number(count as u64).text(": ");
    for (i, hop) in hops.iter().enumerate() {
        reason.text(if i == 0 { "" } else { ", " });
        describe(&mut reason, hop, quality);
    }
    let outs = left_out
        .iter()
        .filter(|c| !c.standing.is_usable())
        .map(|c| (c.carrier.id.as_str(), c.standing.word()))
        .chain(excluded.iter().copied());
    for (i, (id, why)) in outs.take(NAMED_OUT_MAX).enumerate() {
        reason.text(if i == 0 { "; not " } else { ", " });
        reason.text(id).text(" ").text(why);
    }
    reason
}

/// Left-out carriers that a reason names at most.
const NAMED_OUT_MAX: usize = 8;

fn describe(reason: &mut Reason, hop: &Candidate<'_>, quality: bool) {
    reason.text(&hop.carrier.id);
    if let Some(price) = hop.price {
        reason.text(" ").number(price).text("µ");
    }
    if quality {
        if let Some(ratio) = hop.carrier.delivered_ratio {
            reason.text(" ").decimal(ratio * 100.0, 0).text("%");
        }
        if let Some(ms) = hop.carrier.p50_receipt_ms {
            reason.text(" ").number(u64::from(ms / 1000));
            reason
                .text(".")
                .number(u64::from(ms % 1000 / 100))
                .text("s");
        }
    }
    if hop.standing != Standing::Ready {
        reason.text(" (").text(hop.standing.word()).text(")");
    }
}
