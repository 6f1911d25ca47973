//! host/UNSAFE.md has a row for every file that allows unsafe code, with how often and why.

use std::path::{Path, PathBuf};

use heliograph_tests::source_tree::{found, listed, places};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn unsafe_code_is_listed_with_its_reason() {
    let (found, listed) = (found(&root()), listed(&root()));
    assert_eq!(found, listed, "host/UNSAFE.md does not say what there is");
}

#[test]
fn the_search_sees_what_it_should() {
    assert_eq!(places("fn f() { unsafe { g() } } // unsafe"), Some(1));
    assert_eq!(places("#![allow(unsafe_code)]"), Some(0));
    assert_eq!(places("// unsafe\nfn f() {}"), None);
}
