//! With a real NGINX: a client with an expired certificate, one without, and plain HTTP; its error log is followed.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::common::{PATIENCE, Server};
use serde_json::Value;

/// NGINX, or none: then the test says so and fails, because the README promises that `tests/run` installs it.
fn nginx_program() -> PathBuf {
    ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"]
        .iter()
        .map(PathBuf::from)
        .find(|p| p.exists())
        .expect("nginx is needed for this test (Debian: nginx-light)")
}

fn run(program: &str, arguments: &[&str], folder: &Path) {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A CA, a server certificate, and a client certificate that ended a day ago.
fn certificates(folder: &Path) {
    let ec = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"];
    for name in ["ca.key", "server.key", "client.key"] {
        run("openssl", &[&ec[..], &[name]].concat(), folder);
    }
    run(
        "openssl",
        &["req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=Test CA", "-days", "30", "-out", "ca.pem"],
        folder,
    );
    for (name, subject, days) in
        [("server", "/CN=localhost", "30"), ("client", "/CN=gateway.shop.svc.cluster.local", "-1")]
    {
        let (key, csr, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        run("openssl", &["req", "-new", "-key", &key, "-subj", subject, "-out", &csr], folder);
        run(
            "openssl",
            &[
                "x509",
                "-req",
                "-in",
                &csr,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                days,
                "-out",
                &pem,
            ],
            folder,
        );
    }
}

struct Nginx {
    process: Child,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill(); // ours, started below
        let _ = self.process.wait();
    }
}

fn start_nginx(folder: &Path, port: u16) -> Nginx {
    let here = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {here}/nginx.pid; error_log {here}/error.log info;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f; \
         uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
         server {{ listen 127.0.0.1:{port} ssl; server_name ledger.payments.svc.cluster.local; \
         ssl_certificate {here}/server.pem; ssl_certificate_key {here}/server.key; \
         ssl_client_certificate {here}/ca.pem; ssl_verify_client on; return 200; }} }}\n"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config).unwrap();
    let process =
        Command::new(nginx_program()).arg("-p").arg(folder).arg("-c").arg(&path).stderr(Stdio::null()).spawn().unwrap();
    let nginx = Nginx { process };
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < PATIENCE, "nginx does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    nginx
}

/// One request with the openssl client; whether it is answered does not matter here, NGINX's log does.
fn call(folder: &Path, port: u16, options: &[&str]) {
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-CAfile", "ca.pem", "-quiet", "-no_ign_eof"])
        .args(options)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = client.stdin.take().unwrap();
    let _ = input.write_all(b"GET / HTTP/1.1\r\nHost: ledger\r\nConnection: close\r\n\r\n");
    std::thread::sleep(Duration::from_millis(300)); // the client reads what comes until its input ends
    drop(input);
    let _ = client.wait();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn failures_of_a_real_nginx_are_found_with_their_cause() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let port = free_port();
    let _nginx = start_nginx(folder.path(), port);
    let config = folder.path().join("counterfoil.toml");
    let data = folder.path().join("data");
    let log = folder.path().join("error.log");
    fs::write(
        &config,
        format!("[[source]]\nname = \"ledger\"\nformat = \"nginx-error\"\npath = {log:?}\nnamespace = \"payments\"\nworkload = \"ledger\"\n"),
    )
    .unwrap();
    let created = crate::common::program().arg("init").arg("--data").arg(&data).output().unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let server = Server::start_with(&data, &["--config", config.to_str().unwrap()]);

    call(folder.path(), port, &["-cert", "client.pem", "-key", "client.key"]);
    call(folder.path(), port, &[]);
    let plain = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let _ = crate::common::try_request(([127, 0, 0, 1], port).into(), plain, b"");

    let began = Instant::now();
    let of = |records: &[Value], failure: &str| {
        records.iter().find(|r| r["detail"]["handshake"]["failure"] == failure).cloned()
    };
    let found = loop {
        let records = server.records("type:handshake.failed");
        let all = ["verify_failed", "no_certificate", "plain_http"].map(|failure| of(&records, failure));
        if all.iter().all(Option::is_some) {
            break all.map(Option::unwrap);
        }
        assert!(began.elapsed() < PATIENCE, "only these were found: {records:#?}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let [expired, absent, plain] = found;
    assert_eq!(expired["detail"]["handshake"]["verify_code"], 10);
    // No SPIRE log was given: that the certificate expired is seen, why it did is not, and the answer says so.
    assert_eq!(expired["cause"]["word"], "undetermined");
    assert!(!expired["missing"].as_array().unwrap().is_empty(), "{expired:#}");
    assert_eq!(expired["detail"]["handshake"]["to"]["name"], "payments/ledger");
    // Whether the caller belongs to the mesh cannot be seen from this log alone; it must not be guessed.
    assert_eq!(absent["cause"]["word"], "undetermined");
    assert!(!absent["missing"].as_array().unwrap().is_empty(), "{absent:#}");
    assert_eq!(plain["cause"]["word"], "plaintext_to_tls_port");
    server.stop();
}
