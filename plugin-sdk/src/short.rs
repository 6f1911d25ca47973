//! Copies of short texts. One whose length is known only when it runs leaves the component for the runtime's
//! `memory.copy`, which takes longer than a word or a number is worth; a few loads and stores do the same.
#![allow(unsafe_code)]

use std::ptr;

/// `text.to_owned()`.
pub(crate) fn copy(text: &str) -> String {
    let mut copied = String::with_capacity(text.len());
    push(&mut copied, text);
    copied
}

/// `to.push_str(text)`.
#[inline(always)]
pub(crate) fn push(to: &mut String, text: &str) {
    let length = text.len();
    to.reserve(length);
    // SAFETY: there is room for `length` more octets, a text is UTF-8, and what is borrowed to be written is nowhere
    // in what is borrowed to be read.
    unsafe {
        let octets = to.as_mut_vec();
        let end = octets.len();
        copy_octets(text.as_ptr(), octets.as_mut_ptr().add(end), length);
        octets.set_len(end + length);
    }
}

/// SAFETY: `length` octets can be read at `from` and written at `to`, and no octet is both.
#[inline(always)]
unsafe fn copy_octets(from: *const u8, to: *mut u8, length: usize) {
    /// The first octets and the last ones, which overlap where there are fewer than two words of them.
    macro_rules! ends {
        ($word:ty) => {{
            let last = length - size_of::<$word>();
            // SAFETY: `length` is a word at least, so both are within.
            unsafe {
                let first_word = from.cast::<$word>().read_unaligned();
                let last_word = from.add(last).cast::<$word>().read_unaligned();
                to.cast::<$word>().write_unaligned(first_word);
                to.add(last).cast::<$word>().write_unaligned(last_word);
            }
        }};
    }
    match length {
        0 => {}
        1 => ends!(u8),
        2..=3 => ends!(u16),
        4..=7 => ends!(u32),
        8..=15 => ends!(u64),
        16..=32 => ends!([u64; 2]),
        33..=64 => ends!([u64; 4]),
        // SAFETY: the caller's promise.
        _ => unsafe { ptr::copy_nonoverlapping(from, to, length) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_text_whatever_its_length_and_its_characters() {
        for pattern in ["a", "é", "aé", "日本", "x🦀y"] {
            for repeats in 0..120 {
                let text = pattern.repeat(repeats);
                assert_eq!(copy(&text), text);
                let mut line = "=".to_owned();
                push(&mut line, &text);
                assert_eq!(line, format!("={text}"));
            }
        }
    }
}
