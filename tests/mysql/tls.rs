//! Encrypted ways to a server, and which of them are good enough.

use std::path::{Path, PathBuf};
use std::process::Command;

use datastore::partition::Result;
use datastore::partition::engine::Engine;
use datastore::partition::mysql::Mysql;
use mysql::prelude::Queryable;

use crate::bed::{founded, kind, set, value, write};
use crate::support::mariadb::{Server, mysqld_root};

/// A certificate for the address `host`, and that of the authority that signed it.
fn certificate(folder: &Path, host: &str) -> (PathBuf, Vec<String>) {
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder).output();
        let output = output.expect("openssl is missing; install it: apt-get install -y openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout"];
    let host = format!("subjectAltName=IP:{host}");
    run(&[&key[..], &["ca.key", "-x509", "-out", "ca.pem", "-subj", "/CN=authority"]].concat());
    let server = ["server.key", "-out", "server.csr", "-subj", "/CN=server", "-addext", &host];
    run(&[&key[..], &server].concat());
    run(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-copy_extensions",
        "copy",
        "-out",
        "server.pem",
    ]);
    let option = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
    let options = vec![option("ssl-cert", "server.pem"), option("ssl-key", "server.key")];
    (folder.join("ca.pem"), options)
}

/// A server with a certificate for `host`, and a database whose user has to come by TLS.
fn server(host: &str) -> (tempfile::TempDir, Server, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let (ca, options) = certificate(folder.path(), host);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let server = Server::start_with(&options);
    let database = server.database();
    let account = format!("'{database}'@'127.0.0.1'");
    let mut admin = server.admin();
    admin.query_drop(format!("CREATE USER {account} IDENTIFIED BY 'x' REQUIRE SSL")).unwrap();
    admin.query_drop(format!("GRANT ALL ON {database}.* TO {account}")).unwrap();
    (folder, server, ca, database)
}

fn engine(server: &Server, database: &str, parameters: &str) -> Mysql {
    let url = format!("mysql://{database}:x@127.0.0.1:{}/{database}?{parameters}", server.port());
    Mysql::new(url.parse().unwrap())
}

fn refused(engine: &Mysql) -> String {
    let result: Result<()> = engine.connect().map(drop);
    let error = result.unwrap_err();
    assert_eq!(kind(&error), "unreachable", "{error:?}");
    format!("{error:?}")
}

#[test]
fn a_connection_is_encrypted_where_it_is_asked_for() {
    let (_folder, server, ca, database) = server("127.0.0.1");
    let required = format!("tls=required&ca={}", ca.display());
    let mut home = founded(&engine(&server, &database, &required));
    write(&mut home, &[set("k", vec![7; 3 << 20])]).unwrap();
    assert_eq!(value(&mut home, "k").unwrap().unwrap().len(), 3 << 20);
    engine(&server, &database, "tls=preferred").connect().unwrap();
    refused(&engine(&server, &database, "tls=disabled"));
    let unknown = refused(&engine(&server, &database, "tls=required"));
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
}

#[test]
fn a_certificate_of_another_host_is_refused_where_it_counts() {
    let (_folder, server, ca, database) = server("127.0.0.9");
    let required = format!("tls=required&ca={}", ca.display());
    let other = refused(&engine(&server, &database, &required));
    assert!(other.contains("not valid for name"), "{other}");
    engine(&server, &database, "tls=preferred").connect().unwrap();
}

#[test]
fn a_server_without_tls_is_refused_where_it_is_required_and_taken_where_it_is_preferred() {
    // MySQL makes itself certificates.
    let server = Server::start_with(if mysqld_root().is_some() {
        &["--tls-version="]
    } else {
        &["--skip-ssl"]
    });
    let database = server.database();
    let with = |tls: &str| {
        let url = server.url(&database).to_string();
        let url = url.replace("***", "t%3Ae%40s%2Ft").replace("disabled", tls);
        Mysql::new(url.parse().unwrap())
    };
    with("preferred").connect().unwrap();
    let error = refused(&with("required"));
    assert!(error.contains("secure connection"), "{error}");
}
