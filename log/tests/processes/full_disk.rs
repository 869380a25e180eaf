//! A disk that is really full.

use std::io::Write;
use std::path::Path;

use echo_log::{Log, LogError, Settlement};

use crate::{DIR, command, helper, helper_dir, message, options};

/// Fills the disk that it is given, and goes on when there is room again.
#[tokio::test]
async fn publisher() {
    let Some(dir) = helper_dir() else { return };
    let (log, _) = Log::open(&dir.join("log"), options()).unwrap();
    let (slot, durable) = log.register("slot", b"").unwrap();
    durable.await.unwrap();
    let body = [7; 1000];
    let mut kept = 0;
    let error = loop {
        let sent = log.try_append(message(kept, &[slot], &[&body]));
        match sent.map(|receipt| receipt.durable) {
            Ok(durable) => durable.await.unwrap(),
            Err(error) => break error,
        }
        kept += 1;
    };
    assert!(matches!(error, LogError::NoSpace { .. }), "{error}");
    assert!(kept > 500, "{kept}");
    let mut file = std::fs::File::create(dir.join("more")).unwrap();
    let full = (0..).find_map(|_| file.write_all(&[0; 4096]).err()).unwrap();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    drop(log);

    // Opened on a full disk, it has everything, and takes acknowledgements.
    let log = reopened(&dir, kept);
    log.settle(slot, 1, Settlement::Done);
    log.flush().await.unwrap();
    assert!(matches!(
        log.try_append(message(kept, &[slot], &[&body])),
        Err(LogError::NoSpace { .. })
    ));
    // Somebody makes room.
    std::fs::remove_file(dir.join("more")).unwrap();
    std::fs::remove_file(dir.join("other")).unwrap();
    log.room().await.unwrap();
    log.try_append(message(kept, &[slot], &[&body])).unwrap().durable.await.unwrap();
    drop(log);
    reopened(&dir, kept);
    println!("all is there");
}

fn reopened(dir: &Path, kept: u64) -> Log {
    let (log, report) = Log::open(&dir.join("log"), options()).unwrap();
    assert_eq!((report.messages as u64, report.damage), (kept, vec![]));
    log
}

/// The disk is a memory file system of two megabytes, which is gone with the helper.
#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=2m tmpfs \"$1\" \
        && head -c 600000 /dev/zero > \"$1/other\" && shift && exec \"$@\"";
    let mut words: Vec<String> =
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"].map(Into::into).into();
    words.push(dir.path().display().to_string());
    words.extend(helper("full_disk::publisher"));
    let output = command(&words).env(DIR, dir.path()).output();
    let output = output.expect("this test needs `unshare` of util-linux; install it");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && out.contains("all is there"),
        "this test needs `unshare --map-root-user` and `mount`; where they are there, the log is wrong:\n{out}{err}"
    );
}
