//! The program: reads the command line, runs one command, and is the only place that decides how the process ends.

use std::process::ExitCode;

use clap::Parser as _;
use counterfoil::{cli::Cli, command, render};

fn main() -> ExitCode {
    match command::run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("{}: {error:#}", render::paint(render::BAD, "error"));
            ExitCode::from(2)
        }
    }
}
