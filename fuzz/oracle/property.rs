//! Some things hold on a line whatever happens, in whatever order. Random steps, in the form of the fuzzers' inputs,
//! drive a whole client. [`Rig`](super::rig::Rig) asserts the invariants on the way.

use proptest::collection::vec;
use proptest::prelude::*;

use super::start;
use super::steps::{Speaks, run};

/// A step and its arguments: mostly of kinds that keep a line alive.
fn step() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        4 => prop::sample::select(&[12_u8, 12, 2, 4, 0x44, 0xC4, 0x64, 16, 19][..]),
        3 => 0_u8..32,
        1 => any::<u8>(),
    ];
    let step = (kind, vec(any::<u8>(), 0..6)).prop_map(|(kind, rest)| [vec![kind], rest].concat());
    // A moment goes by in which nothing has to be due.
    let moment = any::<u8>().prop_map(|ms| vec![1, 0, ms]);
    prop_oneof![5 => step, 1 => moment, 3 => slowness()]
}

/// What matters to a slow application, with the arguments that it takes: a message that comes, alone or with what follows, how
/// many are taken, and a reader that stops halfway or goes on.
fn slowness() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => (prop::sample::select(&[16_u8, 0x90][..]), any::<u8>()).prop_map(|(kind, size)| vec![kind, 0, size]),
        1 => (0_u8..5).prop_map(|taking| vec![28, taking]),
        1 => Just(vec![0]),
    ]
}

/// A configuration, the script of a wild protocol, a connection in most cases, and steps.
fn input(speaks: Speaks) -> impl Strategy<Value = Vec<u8>> {
    // How many bytes say how the client is set up.
    let (setup, longest) = match speaks {
        Speaks::Plain => (22, 0_u8),
        Speaks::Json => (24, 0),
        Speaks::Wild => (23, 60),
    };
    let setup = vec(prop_oneof![2 => Just(0_u8), 1 => any::<u8>()], setup);
    let script = (0..=longest).prop_flat_map(move |length| {
        let length_itself = (longest > 0).then_some(length);
        vec(any::<u8>(), usize::from(length))
            .prop_map(move |script| length_itself.into_iter().chain(script).collect::<Vec<_>>())
    });
    let opened = prop_oneof![3 => Just(vec![12, 0, 0]), 1 => Just(vec![])];
    (setup, script, opened, vec(step(), 0..60))
        .prop_map(|(setup, script, opened, steps)| [setup, script, opened, steps.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_of_a_line_hold(
        (speaks, input) in prop::sample::select(&[Speaks::Plain, Speaks::Json, Speaks::Wild, Speaks::Wild][..])
            .prop_flat_map(|speaks| (Just(speaks), input(speaks))),
    ) {
        run(&input, speaks, start());
    }
}
