//! A generated message of every kind survives the wire: eraftpb → typed → bytes → typed → eraftpb
//! is the identity.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use seshat_conformance::generate::{cluster_id, message, message_of};
use seshat_conformance::{Census, Kind, config, survives};

fn runner(cases: u32) -> TestRunner {
    let mut config = config(cases);
    config.source_file = Some(file!());
    TestRunner::new(config)
}

#[test]
fn every_kind_survives() {
    for kind in Kind::ALL {
        let result = runner(400).run(&(message_of(kind), cluster_id()), |(message, cluster)| {
            prop_assert_eq!(Kind::of(&message), Some(kind));
            let arrived = survives(message.clone(), cluster);
            prop_assert_eq!(arrived, Ok(message));
            Ok(())
        });
        if let Err(failure) = result {
            panic!("{kind:?}: {failure}");
        }
    }
}

/// The generator of all kinds really makes all of them, none of them rarely.
#[test]
fn all_kinds_are_generated() {
    const CASES: u32 = 5_200;
    let census = std::cell::RefCell::new(Census::default());
    runner(CASES)
        .run(&message(), |message| {
            let kind = Kind::of(&message);
            prop_assert!(kind.is_some(), "{message:?}");
            census.borrow_mut().count(kind.unwrap());
            Ok(())
        })
        .unwrap();
    let census = census.into_inner();
    println!("{census}");
    let expected = CASES as usize / Kind::ALL.len();
    for kind in Kind::ALL {
        let count = census.of(kind);
        assert!(count > expected / 2, "{kind:?}: {count} of {CASES}");
    }
}
