//! The program `counterfoil`: keeps what Tekton, NGINX and SPIRE say in a ledger that nobody can change unseen, joins it, and
//! answers.
//!
//! As an operations manual: [`cli`] has the commands, [`config`] every setting, [`serve`] the wiring of the server,
//! [`intake`] what senders may reach, [`api`] what people may reach. A fact's way: [`intake`] or [`follow`] or
//! [`feed`] → [`desk`] → the ledger → [`derive`] → [`answer`] → [`render`].

pub mod answer;
pub mod api;
pub mod ask;
pub mod backup;
pub mod body;
pub mod budget;
pub mod cli;
pub mod command;
pub mod config;
pub mod demo;
pub mod derive;
pub mod desk;
pub mod door;
pub mod explain;
pub mod feed;
pub mod follow;
pub mod intake;
pub mod keys;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod own;
pub mod people;
pub mod problem;
pub mod publish;
pub mod render;
pub mod retention;
pub mod route;
pub mod scenario;
pub mod selfcheck;
pub mod serve;
pub mod sources;
pub mod telemetry;
pub mod upkeep;
pub mod verify;
pub mod watermarks;
