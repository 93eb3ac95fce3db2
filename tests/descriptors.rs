//! A process that has no descriptor left. Alone in its file: the limit is that of the process.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::fs::File;

use common::{Nobody, eventually};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tautline::{Client, Error};

#[test]
fn a_client_that_can_not_have_the_descriptors_of_an_attempt_does_not_start_and_leaves_none_open() {
    const LEAST: nix::libc::rlim_t = 128;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, LEAST, hard).unwrap();
    let nobody = Nobody::new();
    let url = nobody.url();
    let mut files = Vec::new();
    let fill = |files: &mut Vec<File>| files.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
    fill(&mut files);
    for free in 0..16 {
        let taken = files.len();
        files.truncate(taken - free);
        match Client::start(url.as_str()) {
            Err(error) => {
                assert!(matches!(error, Error::System { .. }), "{error}");
                assert!(format!("{error:?}").contains("Too many open files"), "{error:?}");
                fill(&mut files);
                assert_eq!(files.len(), taken, "with {free} left");
            }
            Ok(client) => {
                eventually("the end of the attempt", || client.status().trouble.is_some());
                let failure = client.status().trouble;
                assert!(matches!(failure, Some(Error::Connect { .. })), "with {free} left: {failure:?}");
                return;
            }
        }
    }
    panic!("an idle client takes more than 15 descriptors");
}
