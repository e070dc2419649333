//! The systemd units: understood without complaint, and closed as tightly as they claim.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Tenths of the exposure level that `systemd-analyze security` may find.
const EXPOSURE_MAX: &str = "--threshold=15";

/// The units, with the binary where it stands on this machine; `None`: no systemd to ask.
fn units(folder: &Path) -> Option<Vec<PathBuf>> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        let complete = std::env::var_os("DATASTORE_TEST_COMPLETE").is_some();
        assert!(!complete, "systemd-analyze is missing: install systemd");
        println!("SKIPPED: systemd-analyze is not installed");
        return None;
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")).unwrap() {
        let entry = entry.unwrap();
        let unit = std::fs::read_to_string(entry.path()).unwrap();
        let unit = unit.replace("/usr/bin/datastore", env!("CARGO_BIN_EXE_datastore"));
        let path = folder.join(entry.file_name());
        std::fs::write(&path, unit).unwrap();
        paths.push(path);
    }
    paths.sort();
    Some(paths)
}

fn names(paths: &[PathBuf]) -> Vec<&str> {
    paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect()
}

#[test]
fn the_units_are_clean_and_tight() {
    let folder = tempfile::tempdir().unwrap();
    let Some(units) = units(folder.path()) else { return };
    let all = ["datastore-sync.service", "datastore-sync.timer", "datastore.service"];
    assert_eq!(names(&units), all);
    let verify = Command::new("systemd-analyze").arg("verify").args(&units).output().unwrap();
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    assert!(verify.status.success() && !said.contains("datastore"), "{said}");
    for unit in units.iter().filter(|unit| unit.extension().unwrap() == "service") {
        let security = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", EXPOSURE_MAX])
            .arg(unit)
            .output()
            .unwrap();
        assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
    }
}
