//! What is known of each carrier's receipts: what they taught (in which form ids come back, one
//! receipt for each segment or one for all) and how many there were of each kind. The committer
//! writes; anybody reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::records::Lessons;
use super::types::ReceiptReport;
use crate::domain::CarrierId;
use crate::domain::receipt::{IdForm, IdLearner, Likeness, Per, PerLearner, ReceiptStyle};

/// Kinds of receipts and of ids, for operators. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Count {
    /// Told a segment's end.
    Matched = 0,
    /// On the way to another receipt.
    Intermediate,
    /// Said what was known.
    Duplicate,
    /// Said otherwise than an earlier one.
    Contradictory,
    /// Nothing waits for it yet: kept.
    Orphaned,
    /// Of those, what found its message in the end.
    Adopted,
    /// Of those, what could not be kept, because too many are.
    Dropped,
    /// May speak of several messages: kept, and applied to none.
    Ambiguous,
    /// Names another handset than the message it would meet, at a carrier that names them rightly:
    /// kept, and not applied.
    WrongHandset,
    /// Its message went on to another carrier.
    Rerouted,
    /// Responses without an id: no receipt can ever name them.
    EmptyId,
    /// Responses with an id that another message waits under.
    ReusedId,
    /// Responses with an id longer than SMPP 3.4, 5.2.23 allows: 64 characters.
    OverlongId,
}

const COUNTS: [(Count, &str); 13] = [
    (Count::Matched, "matched"),
    (Count::Intermediate, "intermediate"),
    (Count::Duplicate, "duplicate"),
    (Count::Contradictory, "contradictory"),
    (Count::Orphaned, "orphaned"),
    (Count::Adopted, "adopted"),
    (Count::Dropped, "dropped"),
    (Count::Ambiguous, "ambiguous"),
    (Count::WrongHandset, "wrong_handset"),
    (Count::Rerouted, "rerouted"),
    (Count::EmptyId, "empty_id"),
    (Count::ReusedId, "reused_id"),
    (Count::OverlongId, "overlong_id"),
];

/// So many receipts that named their handset, for each that did not, and the carrier is believed.
const NAMED_MIN: u64 = 20;

/// One carrier's page.
#[derive(Default)]
pub(super) struct CarrierPage {
    /// Places in `IdForm::ALL` and `Per::ALL`: what the operator set, as receipts brought it.
    style: (AtomicU8, AtomicU8),
    pub ids: Mutex<IdLearner>,
    pub per: Mutex<PerLearner>,
    counts: [AtomicU64; COUNTS.len()],
    /// Receipts that named their message's handset, and that named another number.
    named: (AtomicU64, AtomicU64),
    /// Orphans kept just now.
    pub orphans: AtomicU64,
}

impl CarrierPage {
    pub fn count(&self, what: Count) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a receipt that speaks so of a handset is to be kept from its message: it names another,
    /// and this carrier's receipts have named theirs all the time.
    pub fn doubts(&self, likeness: Likeness) -> bool {
        let (same, other) = &self.named;
        let named = same.load(Ordering::Relaxed);
        match likeness {
            Likeness::Unsaid => false,
            Likeness::Same => {
                same.store(named.saturating_add(1), Ordering::Relaxed);
                false
            }
            Likeness::Other => {
                let strays = other.fetch_add(1, Ordering::Relaxed) + 1;
                named >= NAMED_MIN && named / NAMED_MIN >= strays
            }
        }
    }

    /// What holds for a carrier with these settings: what is set, else what was learned.
    pub fn style(&self, set: ReceiptStyle) -> ReceiptStyle {
        let place = |found: Option<usize>| found.and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
        let form = IdForm::ALL.iter().position(|f| *f == set.id_form);
        let per = Per::ALL.iter().position(|p| *p == set.per);
        // What was asked for by its own id says nothing of how receipts come: `Auto` stays.
        let auto = IdForm::ALL.iter().position(|f| *f == IdForm::Auto);
        if self.style.0.load(Ordering::Relaxed) != place(auto) + 1 {
            self.style.0.store(place(form) + 1, Ordering::Relaxed);
        }
        self.style.1.store(place(per) + 1, Ordering::Relaxed);
        ReceiptStyle {
            id_form: match set.id_form {
                IdForm::Auto => self.ids.lock().form(),
                form => form,
            },
            per: match set.per {
                Per::Auto => self.per.lock().learned().unwrap_or(Per::Auto),
                per => per,
            },
        }
    }

    pub fn lessons(&self) -> Lessons {
        Lessons {
            ids: self.ids.lock().memory().clone(),
            per: self.per.lock().learned(),
        }
    }

    fn report(&self) -> ReceiptReport {
        let known = |place: &AtomicU8| usize::from(place.load(Ordering::Relaxed)).checked_sub(1);
        let lessons = self.lessons();
        ReceiptReport {
            set_form: known(&self.style.0).and_then(|n| IdForm::ALL.get(n).copied()),
            set_per: known(&self.style.1).and_then(|n| Per::ALL.get(n).copied()),
            learned_form: lessons.ids.learned,
            pairs: lessons.ids.pairs(),
            undecided: lessons.ids.undecided,
            votes: IdForm::KNOWN.into_iter().zip(lessons.ids.votes).collect(),
            learned_per: lessons.per,
            orphans: self.orphans.load(Ordering::Relaxed),
            counts: COUNTS
                .iter()
                .map(|(what, name)| (*name, self.counts[*what as usize].load(Ordering::Relaxed)))
                .collect(),
        }
    }
}

#[derive(Default)]
pub(super) struct ReceiptBook(RwLock<HashMap<CarrierId, Arc<CarrierPage>>>);

impl ReceiptBook {
    pub fn page(&self, carrier: &CarrierId) -> Arc<CarrierPage> {
        if let Some(page) = self.0.read().get(carrier) {
            return page.clone();
        }
        self.0.write().entry(carrier.clone()).or_default().clone()
    }

    /// What was kept of a carrier when the last process ended.
    pub fn restore(&self, carrier: &CarrierId, lessons: Lessons) {
        let page = self.page(carrier);
        *page.ids.lock() = IdLearner::recall(lessons.ids);
        *page.per.lock() = PerLearner::recall(lessons.per);
    }

    pub fn report(&self, carrier: &CarrierId) -> ReceiptReport {
        let page = self.0.read().get(carrier).cloned();
        page.unwrap_or_default().report()
    }
}
