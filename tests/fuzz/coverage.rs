//! What a run reached, and what it compared: the receiving end of SanitizerCoverage
//! (https://clang.llvm.org/docs/SanitizerCoverage.html). The compiler puts a counter at every edge of
//! the instrumented crates, and a call before every comparison of integers.

// The counters are a section of the program that the linker lays out, and the calls come from compiled
// code by C's conventions: neither can be said in safe Rust.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

static COUNTERS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Comparisons that are remembered of one run.
const COMPARED_MAX: usize = 1024;

thread_local! {
    static COMPARED: UnsafeCell<Vec<(u64, u64)>> =
        const { UnsafeCell::new(Vec::new()) };
}

/// Called once for each instrumented object file, all with the bounds of the one section.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    COUNTERS.store(start, Relaxed);
    COUNT.store((stop as usize).saturating_sub(start as usize), Relaxed);
}

/// Where the edges are in the program: of no use here.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_pcs_init(_start: *const usize, _stop: *const usize) {}

macro_rules! comparison {
    ($($name:ident: $type:ty),* $(,)?) => {
        $(#[unsafe(no_mangle)]
        extern "C" fn $name(left: $type, right: $type) {
            note(u64::from(left), u64::from(right));
        })*
    };
}
comparison!(
    __sanitizer_cov_trace_cmp1: u8,
    __sanitizer_cov_trace_cmp2: u16,
    __sanitizer_cov_trace_cmp4: u32,
    __sanitizer_cov_trace_cmp8: u64,
    __sanitizer_cov_trace_const_cmp1: u8,
    __sanitizer_cov_trace_const_cmp2: u16,
    __sanitizer_cov_trace_const_cmp4: u32,
    __sanitizer_cov_trace_const_cmp8: u64,
);

/// `cases` begins with how many there are and how wide they are.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_trace_switch(value: u64, cases: *const u64) {
    // SAFETY: the compiler passes an array of `2 + cases[0]` numbers.
    unsafe {
        for n in 0..*cases as usize {
            note(value, *cases.add(2 + n));
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_trace_div4(_value: u32) {}
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_trace_div8(_value: u64) {}
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_trace_gep(_index: usize) {}
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_trace_pc_indir(_callee: usize) {}

/// Equal operands teach nothing.
fn note(left: u64, right: u64) {
    if left == right {
        return;
    }
    let _ = COMPARED.try_with(|compared| {
        // SAFETY: of one thread, and never held across a call.
        let compared = unsafe { &mut *compared.get() };
        if compared.len() < COMPARED_MAX {
            compared.push((left, right));
        }
    });
}

fn counters() -> &'static mut [u8] {
    let (start, count) = (COUNTERS.load(Relaxed), COUNT.load(Relaxed));
    if start.is_null() {
        return &mut [];
    }
    // SAFETY: the linker's section, which lives as long as the program; only this thread runs rules.
    unsafe { std::slice::from_raw_parts_mut(start, count) }
}

pub fn is_there() -> bool {
    !counters().is_empty()
}

/// Before a run.
pub fn clear() {
    counters().fill(0);
    COMPARED.with(|compared| {
        // SAFETY: as in `note`.
        unsafe { (*compared.get()).clear() };
    });
}

/// Unequal operands of the run's comparisons.
pub fn compared() -> Vec<(u64, u64)> {
    COMPARED.with(|compared| {
        // SAFETY: as in `note`.
        unsafe { (*compared.get()).clone() }
    })
}

const CHUNK: usize = 256;
const ZEROS: [u8; CHUNK] = [0; CHUNK];

/// A bit for how often an edge was passed.
fn magnitude(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128.. => 128,
    }
}

/// What all runs so far reached.
pub struct Coverage {
    /// A bit for each order of magnitude in which an edge was ever passed in one run.
    seen: Vec<u8>,
}

impl Coverage {
    pub fn new() -> Coverage {
        Coverage {
            seen: vec![0; counters().len()],
        }
    }

    /// Adds the run since [`clear`]; whether it passed an edge that none did, or more often.
    pub fn is_new(&mut self) -> bool {
        let mut new = false;
        // Almost all are 0: a program has many edges, and a rule passes few.
        for (seen, counts) in self.seen.chunks_mut(CHUNK).zip(counters().chunks(CHUNK)) {
            if *counts == ZEROS[..counts.len()] {
                continue;
            }
            for (seen, count) in seen.iter_mut().zip(counts) {
                let magnitude = magnitude(*count);
                new |= *seen & magnitude != magnitude;
                *seen |= magnitude;
            }
        }
        new
    }

    pub fn edges(&self) -> usize {
        self.seen.iter().filter(|s| **s != 0).count()
    }
}
