//! How a call meets the host's state: as it is, or as a recorded decision met it. A live call can be
//! listened to; a call that repeats a recorded one hears the same answers and changes nothing.

use std::sync::Arc;

use super::state::StateStore;
use crate::domain::{Heard, Hook, HostAnswer};

/// Answers of one call beyond which no more are kept: such a call cannot be repeated exactly.
pub(super) const ANSWERS_MAX: usize = 64;

/// Goes with the calls of one decision.
pub struct Witness {
    mode: Mode,
    heard: Vec<Heard>,
}

enum Mode {
    /// Live calls of which nothing is kept.
    Absent,
    /// Live calls whose answers are kept.
    Listening,
    /// Calls of another time.
    Recalling {
        answers: Vec<Heard>,
        aside: Arc<dyn StateStore>,
    },
}

/// The state that one call sees. Moved into the instance for as long as the call lasts.
pub(super) enum StateView {
    Live,
    /// Live, and what was answered.
    Listened(Vec<HostAnswer>),
    /// Reads are live, writes go nowhere.
    Preview,
    Recalled(Recall),
}

/// The answers of then, and a place for what was not asked then.
pub(super) struct Recall {
    answers: Vec<HostAnswer>,
    pub aside: Arc<dyn StateStore>,
}

impl Witness {
    /// For calls of which nothing is kept.
    pub fn absent() -> Witness {
        Witness {
            mode: Mode::Absent,
            heard: Vec::new(),
        }
    }

    /// Keeps what the host answers.
    pub fn listening() -> Witness {
        Witness {
            mode: Mode::Listening,
            heard: Vec::new(),
        }
    }

    /// Repeats `answers`, each once and in its order. What a plugin asks beyond them is answered from
    /// `aside`, where its writes go too.
    pub fn recalling(answers: Vec<Heard>, aside: Arc<dyn StateStore>) -> Witness {
        Witness {
            mode: Mode::Recalling { answers, aside },
            heard: Vec::new(),
        }
    }

    /// All answers that were kept.
    pub fn into_heard(self) -> Vec<Heard> {
        self.heard
    }

    /// Whether the calls repeat others: they are no news of how a plugin does.
    pub(super) fn recalls(&self) -> bool {
        matches!(self.mode, Mode::Recalling { .. })
    }

    pub(super) fn view(&mut self, entry: &str, hook: Hook, preview: bool) -> StateView {
        match &mut self.mode {
            Mode::Absent | Mode::Listening if preview => StateView::Preview,
            Mode::Absent => StateView::Live,
            Mode::Listening => StateView::Listened(Vec::new()),
            Mode::Recalling { answers, aside } => {
                let found = answers
                    .iter()
                    .position(|h| h.hook == hook && h.entry == entry);
                StateView::Recalled(Recall {
                    answers: found.map_or(Vec::new(), |n| answers.swap_remove(n).answers),
                    aside: aside.clone(),
                })
            }
        }
    }

    pub(super) fn returned(&mut self, entry: &str, hook: Hook, view: StateView) {
        if let StateView::Listened(answers) = view
            && !answers.is_empty()
        {
            self.heard.push(Heard {
                entry: entry.to_owned(),
                hook,
                answers,
            });
        }
    }
}

impl Recall {
    /// The first answer of then that `is` this one.
    pub fn take<T>(&mut self, is: impl Fn(&HostAnswer) -> Option<T>) -> Option<T> {
        let (index, found) = self
            .answers
            .iter()
            .enumerate()
            .find_map(|(n, answer)| is(answer).map(|found| (n, found)))?;
        self.answers.remove(index);
        Some(found)
    }
}

impl StateView {
    /// Keeps an answer where somebody listens.
    pub fn note(&mut self, answer: impl FnOnce() -> HostAnswer) {
        if let StateView::Listened(answers) = self
            && answers.len() < ANSWERS_MAX
        {
            answers.push(answer());
        }
    }
}
