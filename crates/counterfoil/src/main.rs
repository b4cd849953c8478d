//! `counterfoil`: keeps what Tekton, NGINX and SPIRE say in a ledger that nobody can change unseen, joins it, and
//! answers.
//!
//! As an operations manual: [`cli`] has the commands, [`config`] every setting, [`serve`] the wiring of the server,
//! [`intake`] what senders may reach, [`api`] what people may reach. A fact's way: [`intake`] or [`follow`] or
//! [`feed`] → [`desk`] → the ledger → [`derive`] → [`answer`] → [`render`].

mod answer;
mod api;
mod ask;
mod body;
mod budget;
mod cli;
mod command;
mod config;
mod demo;
mod derive;
mod desk;
mod door;
mod explain;
mod feed;
mod follow;
mod intake;
mod keys;
mod lines;
mod log;
mod metrics;
mod own;
mod people;
mod problem;
mod render;
mod serve;
mod sources;
mod telemetry;
mod verify;
mod watermarks;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match command::run(cli::Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("{}: {error:#}", render::paint(render::BAD, "error"));
            ExitCode::from(2)
        }
    }
}
