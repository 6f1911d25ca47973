//! Who is shown each decision beside the message it is about: the recording, and a shadow. They see
//! and change nothing, and a decision never waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::RwLock;

use super::shadow::Shadow;
use crate::clock::Clock;
use crate::domain::CaseRef;
use crate::store::Recorder;

pub struct Observers {
    recorder: Option<Recorder>,
    shadow: RwLock<Option<Arc<Shadow>>>,
    /// Whether there is any: read by every decision.
    any: AtomicBool,
    clock: Clock,
}

impl Observers {
    pub fn new(recorder: Option<Recorder>, clock: Clock) -> Observers {
        Observers {
            any: AtomicBool::new(recorder.as_ref().is_some_and(Recorder::is_enabled)),
            recorder,
            shadow: RwLock::new(None),
            clock,
        }
    }

    /// What was recorded so far is in its file when this returns.
    pub async fn flush(&self) {
        if let Some(recorder) = &self.recorder {
            recorder.flush().await;
        }
    }

    pub fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// Whether decisions are recorded.
    pub fn records(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::is_enabled)
    }

    pub fn shadow(&self) -> Option<Arc<Shadow>> {
        self.shadow.read().clone()
    }

    /// Puts a shadow in the place of the one before, or in nobody's.
    pub fn set_shadow(&self, shadow: Option<Arc<Shadow>>) -> Option<Arc<Shadow>> {
        let mut held = self.shadow.write();
        self.any.store(self.records() || shadow.is_some(), Relaxed);
        std::mem::replace(&mut *held, shadow)
    }

    /// Whether anybody wants to see what the next decision is made of.
    pub fn wanted(&self) -> bool {
        self.any.load(Relaxed)
    }

    pub fn note(&self, case: &CaseRef<'_>) {
        if let Some(recorder) = &self.recorder {
            let decided = case.message.decisions.last();
            recorder.record(case, decided.map_or_else(|| self.clock.now(), |d| d.at));
        }
        if let Some(shadow) = self.shadow.read().as_ref() {
            shadow.show(case);
        }
    }
}
