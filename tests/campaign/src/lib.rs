//! Survival campaigns against the real program: it is started as a process, over loopback it gets real HTTP, and whoever
//! sends keeps what was promised. `README.md` has the commands.

pub mod aged;
pub mod attack;
pub mod book;
pub mod event;
pub mod flood;
pub mod honest;
pub mod hostile;
pub mod http;
pub mod kill;
pub mod restart;
pub mod rng;
pub mod rolling;
pub mod server;
pub mod table;
pub mod tekton;
