//! The header is the one that the sources say.

use std::path::Path;
use std::{env, fs};

#[test]
fn the_header_is_that_of_the_sources() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = here.join("include/tautline.h");
    let mut made = Vec::new();
    cbindgen::generate(here).expect("the sources can be read").write(&mut made);
    let made = String::from_utf8(made).expect("it is text");
    if env::var_os("TAUTLINE_WRITE_HEADER").is_some() {
        fs::write(&header, &made).expect("the header can be written");
    }
    let kept = fs::read_to_string(&header).unwrap_or_default();
    assert!(made == kept, "make it anew: TAUTLINE_WRITE_HEADER=1 cargo test --test header");
}
