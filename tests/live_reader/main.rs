//! What a followed model costs the thread that reads it when a new version comes: no system call, no allocation, and
//! nothing to free.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "how long to wait for a thread is the machine's time")]
#![allow(missing_docs, reason = "tests have no public API")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint,
    io::{self, Read},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use modelkeep::{Live, Model, ModelKey, NewModel, Schema, Store};
use rustix::thread::{SecureComputingMode, set_secure_computing_mode};

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Calls of the allocator, to take memory or to give it back, by the thread that is watched.
static CALLS: AtomicU64 = AtomicU64::new(0);

struct Counting;

fn count() {
    if WATCHED.get() {
        CALLS.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: the system's allocator does everything.
#[allow(unsafe_code, reason = "an allocator that counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Weights {
    weights: Vec<f64>,
}

impl Model for Weights {
    const SCHEMA: Schema = Schema::new("weights", 1);
}

/// Two megabytes, which the allocator has from the system and gives back to it.
fn model(first: u64) -> NewModel<Weights> {
    let first = f64::from(u32::try_from(first).unwrap());
    NewModel::new(Weights { weights: std::iter::once(first).chain((0..250_000).map(f64::from)).collect() })
}

const ROUNDS: u64 = 40;

/// The round that may begin, the round that is done, and whether each was seen as it should be.
static BEGUN: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static RIGHT: AtomicBool = AtomicBool::new(true);

/// Reads each version once. The kernel ends this thread if it makes another system call than to read or to write.
fn read_on(live: &Live<Weights>, mut never: impl Read) {
    assert!(live.load().is_some(), "the first look of a thread may allocate");
    set_secure_computing_mode(SecureComputingMode::Strict).unwrap();
    WATCHED.set(true);
    for round in 1..=ROUNDS {
        while BEGUN.load(Ordering::SeqCst) < round {
            hint::spin_loop();
        }
        let first = live.load().and_then(|model| model.weights.first().map(|first| first.to_native().to_bits()));
        #[allow(clippy::cast_precision_loss, reason = "rounds are few")]
        let expected = (round as f64).to_bits();
        if first != Some(expected) {
            RIGHT.store(false, Ordering::SeqCst);
        }
        DONE.store(round, Ordering::SeqCst);
    }
    // A thread cannot end without a system call: it waits for what never comes.
    drop(never.read(&mut [0]));
}

#[test]
fn a_thread_that_reads_makes_no_system_call_and_frees_nothing_when_the_model_changes() {
    let store = Store::in_memory().unwrap();
    let key = ModelKey::new("weights", &()).unwrap();
    store.publish(&key, model(0)).unwrap();
    let (never, _kept) = io::pipe().unwrap();
    let live = store.live::<Weights>(&key).unwrap();
    thread::spawn(move || read_on(&live, never));
    let began = Instant::now();
    for round in 1..=ROUNDS {
        store.publish(&key, model(round)).unwrap();
        BEGUN.store(round, Ordering::SeqCst);
        while DONE.load(Ordering::SeqCst) < round {
            assert!(began.elapsed() < Duration::from_secs(120), "the thread was ended in round {round}");
            thread::yield_now();
        }
    }
    assert!(RIGHT.load(Ordering::SeqCst), "each round sees the version of its own");
    assert_eq!(CALLS.load(Ordering::SeqCst), 0, "calls of the allocator");
}
