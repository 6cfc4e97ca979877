//! The registry against a file that reuses its pages.

use super::model::{Lease, World};

/// A generator of numbers that need not be good ones.
#[cfg(not(any(loom, shuttle)))]
fn draw(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    }
}

#[cfg(not(any(loom, shuttle)))]
mod in_turn {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;

    /// Comparing two commits reads pages, which may take long.
    #[test]
    fn who_takes_or_drops_a_lease_does_not_wait_for_pages() {
        let (world, mut draw) = (World::new(), draw(1));
        let held = world.hold(&world.current(), &mut draw);
        assert!(held.is_some());
        let went_on = Arc::new(AtomicUsize::new(0));
        let others = Arc::downgrade(&world);
        world.on_compare({
            let went_on = Arc::clone(&went_on);
            move || {
                let (done, is_done) = mpsc::channel();
                let world = others.upgrade().unwrap();
                let other = thread::spawn(move || {
                    drop(world.hold(&world.current(), &mut |_| 0));
                    done.send(()).unwrap();
                });
                // One that waits goes on when the comparison is over: that is too late, but not for ever.
                if is_done.recv_timeout(Duration::from_secs(5)).is_ok() {
                    went_on.fetch_add(1, Ordering::Relaxed);
                    other.join().unwrap();
                }
            }
        });
        world.write(&mut |_| 2);
        assert_eq!(went_on.load(Ordering::Relaxed), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_held_is_never_given_to_others(seed in any::<u64>(), ops in prop::collection::vec(0u8..12, 1..60)) {
            let (world, mut draw) = (World::new(), draw(seed));
            let (mut leases, mut commits) = (Vec::<Lease>::new(), vec![world.current()]);
            for op in ops {
                match op {
                    0..=3 => world.write(&mut draw),
                    4..=5 => leases.extend(world.hold(&world.current(), &mut draw)),
                    // Of a commit from before, which somebody still reads.
                    6 => leases.extend(world.hold(&commits[draw(commits.len())], &mut draw)),
                    7 => commits.push(world.current()),
                    8 => {
                        leases.truncate(draw(leases.len() + 1));
                        commits.truncate(1 + draw(commits.len()));
                    }
                    9 => world.pins.detach_all(|| false),
                    10 => world.compact(),
                    _ => world.refuse(draw(2) == 0),
                }
                leases.iter().for_each(Lease::check);
            }
        }

        /// A store that is dropped leaves no pin behind, whoever holds what.
        #[test]
        fn pins_end_with_the_store(seed in any::<u64>()) {
            let (world, mut draw) = (World::new(), draw(seed));
            let mut leases = Vec::new();
            for _ in 0..6 {
                leases.extend(world.hold(&world.current(), &mut draw));
                world.write(&mut draw);
            }
            world.pins.close();
            prop_assert!(world.pinned().is_empty(), "{:?}", world.pinned());
            leases.iter().for_each(Lease::check);
        }

        /// Whatever is held, and for how long: before a commit is made, what the one before the last one freed is let
        /// go of.
        #[test]
        fn no_pin_outlives_two_commits(seed in any::<u64>()) {
            let (world, mut draw) = (World::new(), draw(seed));
            let mut leases = Vec::new();
            for _ in 0..40 {
                leases.extend(world.hold(&world.current(), &mut draw));
                world.write(&mut draw);
                world.current();
                let pinned = world.pinned();
                let span = pinned.last().zip(pinned.first()).map(|(last, first)| last - first);
                prop_assert!(span <= Some(2), "{pinned:?}");
            }
        }
    }
}

/// Threads whose order a checker chooses, at random: ten thousand of them.
#[cfg(shuttle)]
mod scheduled {
    use shuttle::rand::Rng;

    use super::*;
    use crate::sync::{Arc, run_scheduled as run, thread};

    fn random() -> impl FnMut(usize) -> usize {
        |below| shuttle::rand::thread_rng().gen_range(0..below.max(1))
    }

    #[test]
    fn readers_a_writer_and_a_thread_that_detaches() {
        run(|| {
            let world = World::new();
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let world = Arc::clone(&world);
                    thread::spawn(move || {
                        let mut draw = random();
                        for _ in 0..3 {
                            let commit = world.current();
                            let early = world.hold(&commit, &mut draw);
                            thread::yield_now();
                            // Taken when its archive may have left already.
                            let late = world.hold(&commit, &mut draw);
                            drop(commit);
                            early.iter().chain(&late).for_each(Lease::check);
                            if draw(2) == 0 {
                                drop(early);
                                thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            let detaching = thread::spawn({
                let world = Arc::clone(&world);
                move || (0..3).for_each(|_| world.pins.detach_all(|| false))
            });
            let mut draw = random();
            for _ in 0..4 {
                if draw(8) == 0 { world.compact() } else { world.write(&mut draw) }
            }
            readers.into_iter().for_each(|reader| reader.join().unwrap());
            detaching.join().unwrap();
        });
    }

    #[test]
    fn the_store_is_dropped_while_models_are_held() {
        run(|| {
            let world = World::new();
            let held = thread::spawn({
                let world = Arc::clone(&world);
                move || {
                    let mut draw = random();
                    (0..2).filter_map(|_| world.hold(&world.current(), &mut draw)).collect::<Vec<_>>()
                }
            });
            (0..2).for_each(|_| world.write(&mut random()));
            let held = held.join().unwrap();
            let dropping = thread::spawn(move || drop(held));
            // Nobody writes from here on.
            world.pins.close();
            dropping.join().unwrap();
            assert!(world.pinned().is_empty(), "a pin is left");
        });
    }
}
