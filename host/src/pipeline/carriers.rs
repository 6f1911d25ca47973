//! All carriers, with what routing may know of them: connection, load, and how well they deliver.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::carrier::Carrier;
use crate::clock::Clock;
use crate::domain::{CarrierId, Hop, Lane};
use crate::plugin::CarrierView;
use crate::store::{ReceiptReport, Store};

/// A snapshot older than this is taken anew: routing decides on figures at most this old.
const VIEWS_FRESH: Duration = Duration::from_millis(10);

/// Receipts that make up a carrier's recent window, and how many it needs to mean something.
const QUALITY_WINDOW: usize = 500;
const QUALITY_MIN: usize = 20;

/// The registry of carriers. Immutable after start, its figures live.
pub struct Carriers {
    slots: Vec<Slot>,
    by_id: HashMap<CarrierId, usize>,
    store: Store,
    clock: Clock,
    views: parking_lot::Mutex<Option<(Instant, Arc<Vec<CarrierView>>)>>,
}

struct Slot {
    carrier: Arc<dyn Carrier>,
    quality: parking_lot::Mutex<Quality>,
}

/// The last receipts of one carrier.
#[derive(Default)]
struct Quality {
    recent: VecDeque<(bool, u32)>,
    delivered: usize,
}

/// One carrier as operators see it.
#[derive(Clone, Debug)]
pub struct CarrierReport {
    pub view: CarrierView,
    pub receipts_seen: usize,
    pub receipts: ReceiptReport,
}

impl Carriers {
    pub fn new(carriers: Vec<Arc<dyn Carrier>>, store: Store, clock: Clock) -> Carriers {
        let by_id = carriers
            .iter()
            .enumerate()
            .map(|(i, c)| (c.id().clone(), i))
            .collect();
        Carriers {
            slots: carriers
                .into_iter()
                .map(|carrier| Slot {
                    carrier,
                    quality: parking_lot::Mutex::default(),
                })
                .collect(),
            by_id,
            store,
            clock,
            views: parking_lot::Mutex::new(None),
        }
    }

    pub fn contains(&self, id: &CarrierId) -> bool {
        self.by_id.contains_key(id)
    }

    pub fn get(&self, id: &CarrierId) -> Option<&Arc<dyn Carrier>> {
        self.by_id.get(id).map(|i| &self.slots[*i].carrier)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Carrier>> {
        self.slots.iter().map(|s| &s.carrier)
    }

    /// What routing policies see, at most 10 ms old.
    pub fn views(&self) -> Arc<Vec<CarrierView>> {
        let now = self.clock.monotonic();
        let mut cached = self.views.lock();
        if let Some((at, views)) = &*cached
            && now.duration_since(*at) < VIEWS_FRESH
        {
            return views.clone();
        }
        let views = Arc::new(self.slots.iter().map(|s| self.view(s)).collect::<Vec<_>>());
        *cached = Some((now, views.clone()));
        views
    }

    pub fn reports(&self) -> Vec<CarrierReport> {
        self.slots
            .iter()
            .map(|slot| CarrierReport {
                view: self.view(slot),
                receipts_seen: slot.quality.lock().recent.len(),
                receipts: self.store.receipt_report(slot.carrier.id()),
            })
            .collect()
    }

    fn view(&self, slot: &Slot) -> CarrierView {
        let status = slot.carrier.status();
        let queued = self.store.queued(&Lane::Carrier(slot.carrier.id().clone()));
        let (delivered_ratio, p50_receipt_ms) = slot.quality.lock().figures();
        CarrierView {
            id: slot.carrier.id().clone(),
            connected: status.connected,
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
            in_flight: status.in_flight,
            headroom: status.headroom,
            delivered_ratio,
            p50_receipt_ms,
            tags: slot.carrier.tags().to_vec(),
        }
    }

    /// The configured default route; all carriers in the order of the configuration where none is.
    pub fn default_hops(&self, names: &[String]) -> Vec<Hop> {
        let hop = |carrier: &CarrierId| Hop {
            carrier: carrier.clone(),
            originator: None,
            price_micros: None,
            tlvs: Vec::new(),
        };
        if names.is_empty() {
            self.slots.iter().map(|s| hop(s.carrier.id())).collect()
        } else {
            let known = names.iter().map(|n| CarrierId::from(n.as_str()));
            known
                .filter(|n| self.contains(n))
                .map(|n| hop(&n))
                .collect()
        }
    }

    /// Notes a final receipt: whether it delivered, and how long after the carrier took the message.
    pub fn note_receipt(&self, carrier: &CarrierId, delivered: bool, took: Duration) {
        if let Some(index) = self.by_id.get(carrier) {
            let took_ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
            self.slots[*index].quality.lock().note(delivered, took_ms);
        }
    }
}

impl Quality {
    fn note(&mut self, delivered: bool, took_ms: u32) {
        if self.recent.len() == QUALITY_WINDOW
            && let Some((was_delivered, _)) = self.recent.pop_front()
        {
            self.delivered -= usize::from(was_delivered);
        }
        self.recent.push_back((delivered, took_ms));
        self.delivered += usize::from(delivered);
    }

    /// Delivered ratio and median time to receipt; none until enough receipts arrived.
    fn figures(&self) -> (Option<f32>, Option<u32>) {
        if self.recent.len() < QUALITY_MIN {
            return (None, None);
        }
        // The newest hundred tell the time well enough, and sorting them costs nothing.
        let mut times: Vec<u32> = self
            .recent
            .iter()
            .rev()
            .take(100)
            .map(|(_, t)| *t)
            .collect();
        times.sort_unstable();
        let ratio = self.delivered as f32 / self.recent.len() as f32;
        (Some(ratio), times.get(times.len() / 2).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_needs_a_window_and_forgets_what_left_it() {
        let mut quality = Quality::default();
        for _ in 0..QUALITY_MIN - 1 {
            quality.note(false, 100);
        }
        assert_eq!(quality.figures(), (None, None));
        for _ in 0..QUALITY_WINDOW {
            quality.note(true, 40);
        }
        assert_eq!(quality.figures(), (Some(1.0), Some(40)));
    }
}
