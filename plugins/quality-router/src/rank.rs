//! The order of carriers: who stands ready, how many points each one has, who comes first while several are about as
//! good, and who is tried. It is handed candidates and numbers; where they came from it does not know.

use heliograph_plugin::{Attempt, Carrier, Outcome};

use crate::config::Weights;

/// Whether a carrier can take this message now, best first. Up to `Poor` it belongs into a plan; the rest only when
/// there is no such carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Ready,
    /// An earlier attempt of this message failed here; another may not.
    TriedHere,
    /// Delivers less than the floor.
    Poor,
    Saturated,
    /// This carrier refused this message for good.
    RefusedHere,
    Down,
}

impl Standing {
    pub fn is_usable(self) -> bool {
        self <= Standing::Poor
    }

    pub fn word(self) -> &'static str {
        match self {
            Standing::Ready => "ready",
            Standing::TriedHere => "failed before",
            Standing::Poor => "below the floor",
            Standing::Saturated => "saturated",
            Standing::RefusedHere => "refused this message",
            Standing::Down => "down",
        }
    }
}

/// A carrier that may carry the message.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub carrier: &'a Carrier,
    pub standing: Standing,
    pub delivered_ratio: f32,
    /// Whether the ratio was measured or is assumed.
    pub is_known: bool,
    pub receipt_ms: u32,
    pub price: Option<u64>,
    pub bonus: f32,
    /// Place in the order of preference, 0 first.
    pub preference: usize,
    /// More is better. Set by `score`.
    pub points: f32,
}

/// What makes a carrier more than busy.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    pub min_headroom: f32,
    pub max_queued: u32,
    pub floor: f32,
}

pub fn standing(
    carrier: &Carrier,
    attempts: &[Attempt],
    delivered_ratio: f32,
    thresholds: Thresholds,
) -> Standing {
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
    let has_room =
        carrier.headroom >= thresholds.min_headroom && carrier.queued <= thresholds.max_queued;
    let load = if has_room {
        Standing::Ready
    } else {
        Standing::Saturated
    };
    let quality = if delivered_ratio < thresholds.floor {
        Standing::Poor
    } else {
        Standing::Ready
    };
    earlier.max(load).max(quality)
}

/// A minute of receipt latency, or of queue, is as bad as it gets.
const SLOW_MS: f32 = 60_000.0;
const LONG_QUEUE_SECONDS: f32 = 60.0;
/// Six times the lowest price, or no price where others have one, is as dear as it gets.
const DEAREST: f32 = 5.0;

/// Gives points, and sorts by standing and points.
pub fn score(candidates: &mut [Candidate<'_>], weights: Weights) {
    let lowest = candidates.iter().filter_map(|c| c.price).min();
    for candidate in candidates.iter_mut() {
        let dearer = match (candidate.price, lowest) {
            (_, None) => 0.0,
            (None, Some(_)) => DEAREST,
            (Some(price), Some(lowest)) => {
                (price as f32 / lowest.max(1) as f32 - 1.0).clamp(0.0, DEAREST)
            }
        };
        let waiting = candidate
            .carrier
            .queued
            .saturating_add(candidate.carrier.in_flight);
        let seconds = waiting as f32 / candidate.carrier.headroom.max(0.1);
        candidate.points = weights.delivery * candidate.delivered_ratio + candidate.bonus
            - weights.latency * (candidate.receipt_ms as f32 / SLOW_MS).min(1.0)
            - weights.price * dearer
            - weights.load * (seconds / LONG_QUEUE_SECONDS).min(1.0);
    }
    candidates.sort_by(|a, b| {
        a.standing
            .cmp(&b.standing)
            .then(b.points.total_cmp(&a.points))
            .then(a.preference.cmp(&b.preference))
    });
}

/// Puts the preferred carrier first while it is about as good as the best: within `band`, always; from there to twice
/// as much, for the share of recipients whose `recipient` (0 to 1) is not yet past the lead. Quality that moves a little
/// moves a little traffic, never all of it. Returns whether somebody other than the best came first.
pub fn prefer(candidates: &mut [Candidate<'_>], band: f32, recipient: f32) -> bool {
    let Some(best) = candidates.first().copied() else {
        return false;
    };
    let preferred = candidates
        .iter()
        .enumerate()
        .filter(|(_, c)| c.standing == best.standing && best.points - c.points < band * 2.0)
        .min_by_key(|(_, c)| c.preference);
    let Some((place, preferred)) = preferred.filter(|(place, _)| *place > 0) else {
        return false;
    };
    let moved = ((best.points - preferred.points) / band - 1.0).clamp(0.0, 1.0);
    if recipient < moved {
        return false;
    }
    candidates[..=place].rotate_right(1);
    true
}

/// Puts a usable carrier first that would get nothing: one below the floor or of unknown quality if there is any, else
/// any but the first. `ticket` decides which. Returns whether there was one.
pub fn explore(candidates: &mut [Candidate<'_>], ticket: u64) -> bool {
    let open = |c: &Candidate<'_>| c.standing == Standing::Ready || c.standing == Standing::Poor;
    let others = || {
        candidates
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, c)| open(c))
    };
    let neglected = |c: &Candidate<'_>| c.standing == Standing::Poor || !c.is_known;
    let wanted = others().filter(|(_, c)| neglected(c)).count();
    let all = if wanted == 0 {
        others().count()
    } else {
        wanted
    };
    if all == 0 {
        return false;
    }
    let nth = (ticket % all as u64) as usize;
    let chosen = others()
        .filter(|(_, c)| wanted == 0 || neglected(c))
        .nth(nth)
        .map(|(place, _)| place);
    if let Some(place) = chosen {
        candidates[..=place].rotate_right(1);
    }
    chosen.is_some()
}
