//! The house's own rules, read from the sources and from cargo: edges that must never exist,
//! purity, tidiness. Rules about behaviour are tested where the behaviour lives.

mod edges;
mod scenarios;
mod tidy;

use std::path::{Path, PathBuf};

/// The checkout.
fn root() -> PathBuf {
    // As cargo says it now: a target folder may be shared by several checkouts.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let here = Path::new(&manifest);
    here.parent().expect("harness/ lies in the checkout").to_path_buf()
}
