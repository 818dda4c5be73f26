//! Build script of every crate that holds mutants: what `HIGHWATER_MUTANT` names is compiled in.
//!
//! A mutant is the product with one rule taken out, by `cfg!(mutant = "S02")` beside that rule;
//! `docs/mutants.md` says which test notices. The variable is unset in every build that anybody
//! runs for its own sake. Where it is set, cargo warns, and the crate knows by
//! `env!("HIGHWATER_MUTANTS")`: `highwater --version` says so and tests refuse it.

fn main() {
    println!("cargo::rerun-if-env-changed=HIGHWATER_MUTANT");
    println!("cargo::rustc-check-cfg=cfg(mutant, values(any()))");
    let wanted = std::env::var("HIGHWATER_MUTANT").unwrap_or_default();
    let mutants: Vec<&str> = wanted.split(',').filter(|id| !id.is_empty()).collect();
    println!("cargo::rustc-env=HIGHWATER_MUTANTS={}", mutants.join(" "));
    for id in &mutants {
        assert!(
            id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "HIGHWATER_MUTANT names mutants of docs/mutants.md, separated by commas, not {id:?}"
        );
        println!("cargo::rustc-cfg=mutant=\"{id}\"");
        println!("cargo::warning=mutant {id}: this build lacks a rule that keeps records safe");
    }
}
