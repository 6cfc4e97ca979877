//! Crashes, for real: a process that is killed while it writes.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use modelkeep::{Store, Version};

use crate::support::{Folder, Weights, first_weight, key, samples, weights};

const PATH: &str = "MODELKEEP_TEST_CRASHING_STORE";

#[test]
#[ignore = "a child of the test below, until it is killed"]
fn a_process_that_publishes() {
    let store = Store::options().retention(3).open(std::env::var_os(PATH).unwrap()).unwrap();
    for i in 0..10_000 {
        let trained = weights(f64::from(i)).training_data(samples("KO", &[(1, f64::from(i))])).artifact("a", "x");
        println!("published {}", store.publish(&key("m"), trained.tag("i", i.to_string())).unwrap());
    }
}

#[test]
fn what_was_published_before_a_kill_is_there_after_it() {
    let folder = Folder::new();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crashing::a_process_that_publishes", "--ignored", "--nocapture"])
            .env(PATH, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut killed = false;
        let mut acknowledged = None;
        for line in output.lines().map_while(Result::ok) {
            if let Some(version) =
                line.split_once("published ").and_then(|(_, version)| version.parse::<Version>().ok())
            {
                acknowledged = Some(version);
                if !killed && version.get() % 20 > 3 * round {
                    std::thread::sleep(Duration::from_micros(137 * round));
                    child.kill().unwrap();
                    killed = true;
                }
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child said what it published");
        let store = folder.open();
        let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
        let (current, acknowledged) = (held.version().unwrap(), acknowledged.unwrap());
        // The last publish may have been committed and not yet acknowledged.
        assert!(current >= acknowledged && current.get() <= acknowledged.get() + 1, "{current} after {acknowledged}");
        let tag = held.metadata().tags["i"].parse::<f64>().unwrap();
        let data = store.training_data(&key("m")).unwrap().unwrap();
        assert_eq!((first_weight(&held), data), (tag, samples("KO", &[(1, tag)])), "one transaction");
        let found = store.verify().unwrap();
        assert!(found.is_whole() && found.unreferenced.is_empty(), "{found:?}");
    }
}
