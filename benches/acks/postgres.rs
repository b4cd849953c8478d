//! PostgreSQL storing the same events, one commit each: what a service in front of a database could reach at best, since
//! here the clients speak to it directly.

use crate::event::Event;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Seconds of load in a round.
const SECONDS: usize = 5;

/// A database cluster in a temporary folder; it is stopped when dropped.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: tempfile::TempDir,
}

impl Postgres {
    /// Starts one, if PostgreSQL is installed where Debian puts it.
    pub(crate) fn start() -> Option<Self> {
        let mut versions: Vec<_> =
            fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path()).collect();
        versions.sort();
        let programs = versions.pop()?.join("bin");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let here = Self { programs, folder };
        // PostgreSQL does not run as root.
        run(Command::new("chown").arg("postgres").arg(here.folder.path()));
        run(here.tool("initdb").arg("--auth=trust").arg("--pgdata").arg(here.data()));
        let options = format!("-c listen_addresses= -c unix_socket_directories={}", here.folder.path().display());
        run(here.tool("pg_ctl").arg("--pgdata").arg(here.data()).args([
            "--wait",
            "--silent",
            "--options",
            &options,
            "start",
        ]));
        run(here.client("psql").args(["-qc", "CREATE TABLE events (id uuid, kind text, body json)"]));
        Some(here)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(self.programs.join(name)).current_dir("/").stdin(Stdio::null());
        command
    }

    fn client(&self, name: &str) -> Command {
        let mut command = self.tool(name);
        command.arg("-h").arg(self.folder.path()).args(["-U", "postgres"]);
        command
    }

    /// Commits a second, with so many clients, over connections that stay open or over a new one for each.
    pub(crate) fn rate(&self, event: &Event, clients: usize, keep_alive: bool) -> f64 {
        let mut body = Vec::new();
        event.write(0, &mut body);
        let body = String::from_utf8(body).expect("JSON is text").replace('\'', "''");
        let script = self.folder.path().join("insert.sql");
        // pgbench puts values only for `:names` that it knows, and leaves the others of the JSON alone.
        let insert = format!("INSERT INTO events VALUES (gen_random_uuid(), 'taskrun', '{body}');\n");
        fs::write(&script, insert).expect("write the script");
        readable(&script);
        let clients = clients.to_string();
        let output = self
            .client("pgbench")
            .args([
                "--no-vacuum",
                "--protocol=simple",
                "--jobs=2",
                "--time",
                &SECONDS.to_string(),
                "--client",
                &clients,
            ])
            .args((!keep_alive).then_some("--connect"))
            .arg("--file")
            .arg(&script)
            .arg("postgres")
            .output()
            .expect("pgbench runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.unwrap_or_else(|| panic!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        run(self.tool("pg_ctl").arg("--pgdata").arg(self.data()).args(["--silent", "--mode=immediate", "stop"]));
    }
}

fn readable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("permissions of our own file");
}

fn run(command: &mut Command) {
    let output = command.stdout(Stdio::null()).output().expect("a program of the system");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
