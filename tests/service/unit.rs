//! The systemd unit: understood without complaint, and closed as tightly as it claims.

use std::path::Path;
use std::process::Command;

/// Tenths of the exposure level that `systemd-analyze security` may find.
const EXPOSURE_MAX: &str = "--threshold=15";

#[test]
fn the_unit_is_clean_and_tight() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        let complete = std::env::var_os("DATASTORE_TEST_COMPLETE").is_some();
        assert!(!complete, "systemd-analyze is missing: install systemd");
        println!("SKIPPED: systemd-analyze is not installed");
        return;
    }
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/datastore.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    // Where the binary stands on this machine.
    let unit = unit.replace("/usr/bin/datastore", env!("CARGO_BIN_EXE_datastore"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("datastore.service");
    std::fs::write(&path, unit).unwrap();
    let verify = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    assert!(verify.status.success() && !said.contains("datastore"), "{said}");
    let security = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", EXPOSURE_MAX])
        .arg(&path)
        .output()
        .unwrap();
    assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
}
