//! `muster-bench`: how fast the real program is, on this machine, as it is now.
//!
//! It prints what it found and never fails for being slow: a machine that is busy with something else is no fault of the
//! program's. The program is the `muster` beside this one, so that `cargo build --release -p muster -p muster-bench` comes
//! first.

mod cli;
mod figures;
mod fleet;
mod served;

use anyhow::Result;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "muster-bench", about = "Measures muster")]
enum Bench {
    Cli(cli::Cli),
}

fn main() -> Result<()> {
    match Bench::parse() {
        Bench::Cli(bench) => bench.run(),
    }
}
