//! What the linker has to know of the shared library.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let major = env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libtautline_c.so.{major}");
    // A module in Rust can't be unmapped soundly: each load would keep one of the process's 1,024 thread-local keys, and
    // OpenSSL would keep a callback into code that is gone.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
