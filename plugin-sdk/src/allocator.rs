//! The allocator of a component. Every string of a call and of its answer is an allocation, some thirty in all,
//! and the standard library's takes longer over them than many a plugin over its decision: small blocks come from
//! lists by size here, the call itself among them, and only what is large goes there.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

/// Sizes are rounded up to a multiple of this, which is also how blocks are aligned.
const STEP: usize = 16;
const CLASSES: usize = 64;
/// Small blocks are cut out of pieces of so many bytes, which are never given back.
const PIECE: usize = 8 << 10;

/// Not for programs with threads: a component has one.
pub struct Allocator(UnsafeCell<Blocks>);

struct Blocks {
    /// By class, blocks that were given back: each begins with the address of the next.
    free: [*mut u8; CLASSES],
    /// What is left of the last piece.
    rest: *mut u8,
    left: usize,
}

// SAFETY: a component's module has one thread (it is built without atomics); the tests keep to one each.
unsafe impl Sync for Allocator {}

impl Allocator {
    pub const fn new() -> Allocator {
        Allocator(UnsafeCell::new(Blocks {
            free: [ptr::null_mut(); CLASSES],
            rest: ptr::null_mut(),
            left: 0,
        }))
    }
}

/// None for what is not small.
fn class(layout: Layout) -> Option<usize> {
    // No bytes wrap around to a class that does not exist.
    let class = layout.size().wrapping_sub(1) / STEP;
    (class < CLASSES && layout.align() <= STEP).then_some(class)
}

impl Blocks {
    fn take(&mut self, class: usize) -> *mut u8 {
        let head = self.free[class];
        if head.is_null() {
            return self.cut((class + 1) * STEP);
        }
        // SAFETY: a block on the list has at least STEP bytes and begins with an address that `give` wrote.
        self.free[class] = unsafe { head.cast::<*mut u8>().read() };
        head
    }

    fn give(&mut self, class: usize, block: *mut u8) {
        // SAFETY: the block is the caller's own, of at least STEP bytes, aligned to STEP.
        unsafe { block.cast::<*mut u8>().write(self.free[class]) };
        self.free[class] = block;
    }

    #[cold]
    fn cut(&mut self, bytes: usize) -> *mut u8 {
        if self.left < bytes {
            let Ok(piece) = Layout::from_size_align(PIECE, STEP) else {
                return ptr::null_mut();
            };
            // SAFETY: PIECE is not 0.
            let fresh = unsafe { System.alloc(piece) };
            if fresh.is_null() {
                return fresh;
            }
            // What was left, a multiple of STEP, is a block of its own class.
            if self.left > 0 {
                self.give(self.left / STEP - 1, self.rest);
            }
            (self.rest, self.left) = (fresh, PIECE);
        }
        let block = self.rest;
        self.left -= bytes;
        // SAFETY: at least `bytes` are left of the piece.
        self.rest = unsafe { block.add(bytes) };
        block
    }
}

// SAFETY: a block is on a list or with its owner, never both; its class follows from the layout that the
// owner gives back as it was asked for.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            // SAFETY: one thread, and nothing in `take` allocates from here.
            Some(class) => unsafe { (*self.0.get()).take(class) },
            // SAFETY: the caller's promise.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout) {
            // SAFETY: as in `alloc`.
            Some(class) => unsafe { (*self.0.get()).give(class, block) },
            // SAFETY: it came from there.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(layout), class(wanted)) {
            (Some(old), Some(new)) if old == new => block,
            // SAFETY: it came from there.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            _ => {
                // SAFETY: two blocks of at least the smaller size.
                unsafe {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allocates, grows and frees as numbers from a seed say; every block keeps what was written to it.
    fn exercise(seed: u64) {
        let allocator = Allocator::new();
        let mut state = seed;
        let mut draw = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let whole = |(block, layout, mark): (*mut u8, Layout, u8), bytes: usize| {
            for n in 0..bytes.min(layout.size()) {
                // SAFETY: within a block that is ours.
                assert_eq!(unsafe { block.add(n).read() }, mark, "{layout:?} at {n}");
            }
        };
        for round in 0..4_000u32 {
            let mark = round as u8;
            match draw(5) {
                0 | 1 => {
                    let (size, align) = (1 + draw(700), 1 << draw(6));
                    let layout = Layout::from_size_align(size, align).expect("a layout");
                    // SAFETY: the size is not 0.
                    let block = unsafe { allocator.alloc(layout) };
                    assert!(!block.is_null() && block.addr().is_multiple_of(align));
                    // SAFETY: it has `size` bytes.
                    unsafe { block.write_bytes(mark, size) };
                    held.push((block, layout, mark));
                }
                2 if !held.is_empty() => {
                    let place = draw(held.len());
                    let (block, layout, old) = held.swap_remove(place);
                    let size = 1 + draw(700);
                    // SAFETY: it is ours, of this layout.
                    let moved = unsafe { allocator.realloc(block, layout, size) };
                    whole((moved, layout, old), size);
                    // SAFETY: it has `size` bytes.
                    unsafe { moved.write_bytes(mark, size) };
                    let layout = Layout::from_size_align(size, layout.align()).expect("a layout");
                    held.push((moved, layout, mark));
                }
                _ if !held.is_empty() => {
                    let place = draw(held.len());
                    let gone = held.swap_remove(place);
                    whole(gone, usize::MAX);
                    // SAFETY: it is ours, of this layout.
                    unsafe { allocator.dealloc(gone.0, gone.1) };
                }
                _ => {}
            }
        }
        for gone in held {
            whole(gone, usize::MAX);
            // SAFETY: it is ours, of this layout.
            unsafe { allocator.dealloc(gone.0, gone.1) };
        }
    }

    #[test]
    fn blocks_keep_what_is_in_them() {
        (1..20).for_each(exercise);
    }

    #[test]
    fn what_is_given_back_is_used_again() {
        let allocator = Allocator::new();
        let layout = Layout::from_size_align(40, 8).expect("a layout");
        // SAFETY: given back as they were asked for.
        unsafe {
            let first = allocator.alloc(layout);
            allocator.dealloc(first, layout);
            let alike = Layout::from_size_align(33, 1).expect("a layout");
            assert_eq!(allocator.alloc(alike), first);
            assert_eq!(allocator.realloc(first, alike, 48), first, "room for it");
        }
    }
}
