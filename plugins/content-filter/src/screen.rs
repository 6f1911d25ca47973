//! The fast path of the word search: the automaton flattened so that a character costs one table look-up, with
//! characters that do not count leading back to the same state. It answers one question, whether any pattern may
//! be in the text; where and which is asked of the automaton itself.

use std::collections::HashMap;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::{Anchored, dfa};

/// Set in a transition that completes a pattern.
const MATCH: u32 = 1 << 31;

pub struct Screen {
    /// `next[state + column]`; states are multiples of the row length.
    next: Vec<u32>,
    /// Class of characters to column. Class 0, no character, has column 0, which stays in the state.
    columns: [u8; 256],
}

impl Screen {
    /// `classes` are those that occur in the patterns of `dfa`.
    pub fn new(dfa: &dfa::DFA, classes: &[Vec<u8>]) -> Self {
        let mut columns = [1; 256];
        columns[0] = 0;
        // One class for each column from 1 on; the first is one that occurs in no pattern.
        let mut representatives = vec![0];
        for &class in classes.iter().flatten() {
            if columns[usize::from(class)] == 1 {
                representatives.push(class);
                columns[usize::from(class)] = representatives.len() as u8;
            }
        }
        let row = (representatives.len() + 1).next_power_of_two();
        let mut screen = Self {
            next: Vec::new(),
            columns,
        };
        screen.fill(dfa, &representatives, row);
        screen
    }

    /// Whether the classes lead through any pattern.
    pub fn run(&self, classes: impl Iterator<Item = u8>) -> bool {
        let mut state = 0;
        for class in classes {
            state = self.next[state as usize + usize::from(self.columns[usize::from(class)])];
            if state & MATCH != 0 {
                return true;
            }
        }
        false
    }

    fn fill(&mut self, dfa: &dfa::DFA, representatives: &[u8], row: usize) {
        let start = dfa.start_state(Anchored::No).unwrap_or_default();
        let mut known: HashMap<StateID, u32> = HashMap::from([(start, 0)]);
        let mut states = vec![start];
        let mut at = 0;
        while let Some(&state) = states.get(at) {
            self.next.resize((at + 1) * row, 0);
            self.next[at * row] = (at * row) as u32;
            for (column, &class) in representatives.iter().enumerate() {
                let next = dfa.next_state(Anchored::No, state, class);
                let found = if dfa.is_match(next) { MATCH } else { 0 };
                let index = *known.entry(next).or_insert_with(|| {
                    states.push(next);
                    ((states.len() - 1) * row) as u32
                });
                self.next[at * row + column + 1] = index | found;
            }
            at += 1;
        }
    }
}
