//! Some things hold on a line whatever happens, in whatever order. Random steps, in the form of the fuzzers' inputs,
//! drive a whole client. [`Rig`](super::rig::Rig) asserts the invariants on the way.

use proptest::collection::vec;
use proptest::prelude::*;

use super::start;
use super::steps::{Speaks, run};

/// A step and its arguments: mostly of kinds that keep a line alive.
fn step() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        4 => prop::sample::select(&[12_u8, 12, 2, 4, 0x64, 16, 19][..]),
        3 => 0_u8..32,
        1 => any::<u8>(),
    ];
    let step = (kind, vec(any::<u8>(), 0..6)).prop_map(|(kind, rest)| [vec![kind], rest].concat());
    // A moment goes by in which nothing has to be due.
    let moment = any::<u8>().prop_map(|ms| vec![1, 0, ms]);
    prop_oneof![8 => step, 1 => moment]
}

/// A configuration, the script of a wild protocol, and steps.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let setup = vec(prop_oneof![2 => Just(0_u8), 1 => any::<u8>()], SETUP);
    let script = (0_u8..60).prop_flat_map(|length| {
        vec(any::<u8>(), usize::from(length)).prop_map(move |script| [vec![length], script].concat())
    });
    (setup, script, vec(step(), 0..60))
        .prop_map(|(setup, script, steps)| [setup, script, steps.concat()].concat())
}

/// How many bytes say how the client is set up.
const SETUP: usize = 21;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_of_a_line_hold(
        input in input(),
        speaks in prop::sample::select(&[Speaks::Plain, Speaks::Json, Speaks::Wild, Speaks::Wild][..]),
    ) {
        run(&input, speaks, start());
    }
}
