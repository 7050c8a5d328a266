//! The house's own rules, read from the sources and from cargo: edges that must never exist,
//! purity, tidiness. Rules about behaviour are tested where the behaviour lives.

mod edges;
mod tidy;

use std::path::{Path, PathBuf};

/// The checkout.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("harness/ lies in the checkout").to_path_buf()
}
