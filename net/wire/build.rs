//! Generates the message types from `schema/*.txt`.

#[path = "codegen/emit.rs"]
mod emit;
#[path = "codegen/schema.rs"]
mod schema;

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let directory = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=codegen");
    let mut apis = Vec::new();
    let mut names: Vec<_> = fs::read_dir(directory.join("schema"))
        .expect("the schema directory is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    names.sort();
    for path in names {
        let text = fs::read_to_string(&path).expect("readable");
        match schema::parse(&text) {
            Ok(api) => apis.push(api),
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    apis.sort_by_key(|api| api.key);
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("messages.rs"), emit::messages(&apis)).expect("writable");
}
