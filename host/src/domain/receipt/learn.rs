//! What a carrier's own receipts teach about it: in which form their ids come back, and whether a
//! message of several segments gets a receipt for each. Counts and decides; pure, so that a lesson
//! can be kept, shown and tested. Under which keys a receipt is looked up is `id.rs`.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::id::{IdForm, reading, response_key};
use crate::clock::Timestamp;
use crate::domain::MessageId;

/// How one carrier writes ids, learned from pairs of a response's id and its receipt's.
///
/// A pair votes where exactly one form explains it. After [`IdLearner::PAIRS`] votes the form of
/// nearly all of them is the carrier's, and receipts are looked up under that form first. A carrier
/// that mixes forms is never given one. One that changes its form is noticed by
/// [`IdLearner::MISFITS`] receipts in a row that only another form explains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdLearner {
    memory: IdMemory,
    misfits: u32,
}

/// What of it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMemory {
    pub learned: Option<IdForm>,
    /// Votes of the present lesson, in the order of [`IdForm::KNOWN`].
    pub votes: [u32; IdForm::KNOWN.len()],
    /// Lessons that ended without a form, because the carrier mixes them.
    pub undecided: u32,
}

impl IdMemory {
    /// Votes so far.
    pub fn pairs(&self) -> u32 {
        self.votes.iter().sum()
    }
}

impl IdLearner {
    /// Votes that make a lesson.
    pub const PAIRS: u32 = 100;
    /// Of them, how many must agree.
    const AGREE: u32 = 95;
    /// So many receipts in a row that contradict what was learned, and it is forgotten.
    pub const MISFITS: u32 = 20;

    pub fn recall(memory: IdMemory) -> IdLearner {
        IdLearner { memory, misfits: 0 }
    }

    pub fn memory(&self) -> &IdMemory {
        &self.memory
    }

    /// The form to look receipts up by: `Auto` until it is known.
    pub fn form(&self) -> IdForm {
        self.memory.learned.unwrap_or(IdForm::Auto)
    }

    /// Notes that a receipt's id met a response's. True where that is worth keeping.
    pub fn note(&mut self, response: &str, receipt: &str) -> bool {
        let explained = explained_by(response, receipt);
        if let Some(learned) = self.memory.learned {
            return self.hold_against(learned, &explained);
        }
        let [form] = explained[..] else {
            return false;
        };
        if let Some(place) = IdForm::KNOWN.iter().position(|f| *f == form) {
            self.memory.votes[place] += 1;
        }
        if self.memory.pairs() >= IdLearner::PAIRS {
            let most = self
                .memory
                .votes
                .iter()
                .zip(IdForm::KNOWN)
                .max_by_key(|v| v.0);
            match most {
                Some((votes, form)) if *votes >= IdLearner::AGREE => {
                    self.memory.learned = Some(form);
                }
                _ => {
                    self.memory.undecided += 1;
                    self.memory.votes = Default::default();
                }
            }
        }
        true
    }

    fn hold_against(&mut self, learned: IdForm, explained: &[IdForm]) -> bool {
        if explained.is_empty() || explained.contains(&learned) {
            self.misfits = 0;
            return false;
        }
        self.misfits += 1;
        let forgotten = self.misfits >= IdLearner::MISFITS;
        if forgotten {
            *self = IdLearner::default();
        }
        forgotten
    }
}

/// The forms under which a receipt's id finds a response's.
fn explained_by(response: &str, receipt: &str) -> Vec<IdForm> {
    let Some(key) = response_key(response) else {
        return Vec::new();
    };
    let meets = |form: &IdForm| reading(receipt, *form).as_ref() == Some(&key);
    IdForm::KNOWN.into_iter().filter(meets).collect()
}

/// For what a carrier sends a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// For each segment.
    Segment,
    /// One for all segments of a message.
    Message,
    /// Not known: for each segment, until it shows otherwise.
    Auto,
}

impl Per {
    pub const ALL: [Per; 3] = [Per::Segment, Per::Message, Per::Auto];

    pub fn name(self) -> &'static str {
        match self {
            Per::Segment => "segment",
            Per::Message => "message",
            Per::Auto => "auto",
        }
    }
}

/// Whether one carrier sends a receipt for each segment. A message of several segments votes for
/// `Segment` when a second one reports, and for `Message` when none did for a while after the first.
/// That lesson is drawn from silence, so that speech unteaches it: other segments of a message that
/// report after one was taken to speak for all.
#[derive(Clone, Debug, Default)]
pub struct PerLearner {
    learned: Option<Per>,
    silent: Vec<MessageId>,
    /// Messages of which one segment has reported, the oldest first.
    waiting: VecDeque<(Timestamp, MessageId)>,
    /// By message: the segment whose receipt was taken for all of them. In two generations, the newest
    /// some thousand.
    spoke: [HashMap<MessageId, usize>; 2],
    /// Messages of which another segment reported all the same.
    misfits: Vec<MessageId>,
}

impl PerLearner {
    /// How long the other segments' receipts may take.
    pub const PATIENCE: Duration = Duration::from_secs(600);
    /// Messages in a row that got one receipt only.
    pub const MESSAGES: usize = 20;
    /// Messages whose segments reported each for itself after all.
    pub const MISFITS: usize = 3;
    const WAITING_MAX: usize = 64;
    const SPOKE_MAX: usize = 8_192;

    pub fn recall(learned: Option<Per>) -> PerLearner {
        PerLearner {
            learned,
            ..PerLearner::default()
        }
    }

    pub fn learned(&self) -> Option<Per> {
        self.learned
    }

    /// A message's first segment of several has reported.
    pub fn first(&mut self, now: Timestamp, id: MessageId) {
        if self.learned.is_none() && self.waiting.len() < PerLearner::WAITING_MAX {
            self.waiting.push_back((now, id));
        }
    }

    /// Another segment of a message has reported: its carrier sends one for each. True where that is
    /// news.
    pub fn another(&mut self) -> bool {
        let news = self.learned.is_none();
        *self = PerLearner::recall(Some(Per::Segment));
        news
    }

    /// Messages whose other segments have been silent for long enough. Ask about each whether they
    /// still are, and say so by [`PerLearner::silent`].
    pub fn overdue(&mut self, now: Timestamp) -> Vec<MessageId> {
        let late = |(at, _): &(Timestamp, MessageId)| now.since(*at) >= PerLearner::PATIENCE;
        let count = self.waiting.iter().take_while(|w| late(w)).count();
        self.waiting.drain(..count).map(|(_, id)| id).collect()
    }

    /// One message's other segments never reported. Once that makes it plain that the carrier sends
    /// one receipt for all, the messages that taught it: their other segments need not be waited for.
    pub fn silent(&mut self, id: MessageId) -> Vec<MessageId> {
        self.silent.push(id);
        if self.silent.len() < PerLearner::MESSAGES {
            return Vec::new();
        }
        let taught = std::mem::take(&mut self.silent);
        *self = PerLearner::recall(Some(Per::Message));
        taught
    }

    /// The receipt of a message's segment was taken for all of them.
    pub fn spoke_for_all(&mut self, id: MessageId, segment: usize) {
        if self.learned != Some(Per::Message) {
            return;
        }
        if self.spoke[0].len() >= PerLearner::SPOKE_MAX / 2 {
            self.spoke[1] = std::mem::take(&mut self.spoke[0]);
        }
        self.spoke[0].entry(id).or_insert(segment);
    }

    /// A segment of a message reported that had been spoken for. True where that is one too many, and
    /// the carrier sends a receipt for each. The same receipt sent again says nothing.
    pub fn spoke_too(&mut self, id: MessageId, segment: usize) -> bool {
        let spoke = self.spoke.iter().find_map(|known| known.get(&id));
        if self.learned != Some(Per::Message) || spoke.is_none_or(|first| *first == segment) {
            return false;
        }
        if !self.misfits.contains(&id) {
            self.misfits.push(id);
        }
        if self.misfits.len() < PerLearner::MISFITS {
            return false;
        }
        *self = PerLearner::recall(Some(Per::Segment));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taught(pairs: impl IntoIterator<Item = (String, String)>) -> IdLearner {
        let mut learner = IdLearner::default();
        for (response, receipt) in pairs {
            learner.note(&response, &receipt);
        }
        learner
    }

    #[test]
    fn every_form_is_learned_from_its_first_hundred_pairs() {
        type Write = fn(u64) -> String;
        let (dec, hex): (Write, Write) = (|n| n.to_string(), |n| format!("{n:X}"));
        let uuid: Write = |n| format!("{n:08x}-92e0-11f0-9e65-0242ac120002");
        let plain: Write = |n| format!("{n:08x}92e011f09e650242ac120002");
        let opaque: Write = |n| format!("msg-{n}-Xy");
        for (response, receipt, form) in [
            (dec, dec, IdForm::AsIs),
            (hex, dec, IdForm::HexInResponse),
            (dec, hex, IdForm::DecimalInResponse),
            (uuid, plain, IdForm::DashesInResponse),
            (plain, uuid, IdForm::DashesInReceipt),
            (opaque, opaque, IdForm::AsIs),
        ] {
            let mut pairs = (10_000_000..10_000_100).map(|n| (response(n), receipt(n)));
            let mut learner = taught(pairs.clone().take(99));
            assert_eq!(learner.form(), IdForm::Auto, "{form:?}");
            let (last, its) = pairs.next_back().unwrap();
            assert!(learner.note(&last, &its));
            assert_eq!(learner.form(), form);
        }
    }

    #[test]
    fn what_every_form_explains_teaches_nothing() {
        let learner = taught((0..500).map(|n| ((n % 10).to_string(), (n % 10).to_string())));
        assert_eq!(learner.memory(), &IdMemory::default());
    }

    #[test]
    fn a_carrier_that_mixes_forms_is_never_given_one() {
        let pairs = (1_000_000..1_001_000u64).map(|n| {
            let receipt = if n % 2 == 0 {
                n.to_string()
            } else {
                format!("{n:x}")
            };
            (n.to_string(), receipt)
        });
        let learner = taught(pairs);
        assert_eq!(learner.form(), IdForm::Auto);
        assert!(learner.memory().undecided >= 9);
    }

    #[test]
    fn a_change_of_form_is_noticed_and_learned_anew() {
        let as_is = (1_000_000..1_000_100u64).map(|n| (n.to_string(), n.to_string()));
        let mut learner = taught(as_is);
        assert_eq!(learner.form(), IdForm::AsIs);
        for n in 2_000_000..2_000_000 + u64::from(IdLearner::MISFITS) {
            assert_eq!(learner.form(), IdForm::AsIs);
            learner.note(&format!("{n:x}"), &n.to_string());
        }
        assert_eq!(learner.form(), IdForm::Auto);
        for n in 3_000_000..3_000_100u64 {
            learner.note(&format!("{n:x}"), &n.to_string());
        }
        assert_eq!(learner.form(), IdForm::HexInResponse);
    }

    #[test]
    fn one_stray_pair_changes_no_mind() {
        let as_is = (1_000_000..1_000_100u64).map(|n| (n.to_string(), n.to_string()));
        let mut learner = taught(as_is);
        for n in 2_000_000..2_000_100u64 {
            learner.note(&format!("{n:x}"), &n.to_string());
            learner.note(&n.to_string(), &n.to_string());
        }
        assert_eq!(learner.form(), IdForm::AsIs);
    }

    #[test]
    fn silence_after_the_first_receipt_tells_that_there_is_one_for_all() {
        let mut learner = PerLearner::default();
        let start = Timestamp(1_800_000_000_000);
        for n in 0..PerLearner::MESSAGES as u128 {
            learner.first(start, MessageId(n));
        }
        assert!(learner.overdue(start).is_empty());
        let overdue = learner.overdue(start.plus(PerLearner::PATIENCE));
        assert_eq!(overdue.len(), PerLearner::MESSAGES);
        let taught: Vec<_> = overdue.iter().flat_map(|id| learner.silent(*id)).collect();
        assert_eq!(taught, overdue);
        assert_eq!(learner.learned(), Some(Per::Message));
    }

    #[test]
    fn segments_that_report_after_all_unteach_what_silence_taught() {
        let mut learner = PerLearner::recall(Some(Per::Message));
        let message = |n: usize| MessageId(n as u128);
        for n in 0..100 {
            learner.spoke_for_all(message(n), 0);
            assert!(!learner.spoke_too(message(n), 0), "a repeat is no news");
        }
        assert!(!learner.spoke_too(message(1_000), 1), "nobody spoke for it");
        for n in 0..PerLearner::MISFITS - 1 {
            for _ in 0..5 {
                assert!(!learner.spoke_too(message(n), 1), "one message is one vote");
            }
        }
        assert_eq!(learner.learned(), Some(Per::Message));
        assert!(learner.spoke_too(message(50), 2));
        assert_eq!(learner.learned(), Some(Per::Segment));
    }

    #[test]
    fn what_is_remembered_of_who_spoke_is_bounded() {
        let mut learner = PerLearner::recall(Some(Per::Message));
        for n in 0..3 * PerLearner::SPOKE_MAX {
            learner.spoke_for_all(MessageId(n as u128), 0);
        }
        let kept: usize = learner.spoke.iter().map(HashMap::len).sum();
        assert!(kept <= PerLearner::SPOKE_MAX, "{kept}");
        let newest = MessageId((3 * PerLearner::SPOKE_MAX - 1) as u128);
        learner.misfits = vec![MessageId(1), MessageId(2)];
        assert!(learner.spoke_too(newest, 1));
    }

    #[test]
    fn a_second_receipt_tells_that_there_is_one_for_each() {
        let mut learner = PerLearner::default();
        assert!(learner.another());
        assert!(!learner.another());
        assert_eq!(learner.learned(), Some(Per::Segment));
    }
}
