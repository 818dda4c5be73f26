//! The Rust client under test: rdkafka, which is librdkafka behind a Rust interface.
//!
//! Runs the named checks (`--bootstrap HOST:PORT --prefix P --checks a,b,c`) and prints one JSON
//! line for each. A check that the client cannot show ends as a skip with its evidence. As
//! `member HOST:PORT TOPIC` it is a group member that its parent kills.

mod broker;
mod data;
mod groups;
mod requests;

use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

use broker::Broker;

/// What a check ends with: a note, a skip or, by panicking, a failure.
pub enum Outcome {
    Shown,
    Skipped(&'static str),
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().map(String::as_str) == Some("member") {
        return groups::doomed_member(&words[1], &words[2]);
    }
    let option = |name: &str| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1))
            .cloned()
            .unwrap_or_else(|| {
                eprintln!("missing {name}");
                std::process::exit(2)
            })
    };
    let broker = Broker::new(&option("--bootstrap"), &option("--prefix"));
    // The message of a panic is in the result line; the default hook would print it again.
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map(|at| format!("{}:{}", at.file(), at.line()));
        eprintln!("{}: {info}", place.unwrap_or_default());
    }));
    for name in option("--checks").split(',') {
        run(&broker, name);
    }
    broker.delete_own_topics();
}

fn run(broker: &Broker, name: &str) {
    let started = Instant::now();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        data::check(broker, name)
            .or_else(|| requests::check(broker, name))
            .or_else(|| groups::check(broker, name))
            .expect("this client has no such check")
    }));
    let (status, note) = match outcome {
        Ok(Outcome::Shown) => ("ok", None),
        Ok(Outcome::Skipped(why)) => ("skip", Some(why.to_string())),
        Err(why) => {
            let text = why.downcast_ref::<String>().cloned();
            let text = text.or_else(|| why.downcast_ref::<&str>().map(|text| text.to_string()));
            ("fail", Some(text.unwrap_or_else(|| "panicked".to_string())))
        }
    };
    let line = serde_json::json!({
        "client": "rdkafka",
        "check": name,
        "status": status,
        "ms": started.elapsed().as_millis() as u64,
        "note": note,
    });
    println!("{line}");
}
