//! A copy of what plugins are built with, to write plugins into.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The parts of the project that a plugin builds on, always in the same place, so that what cargo compiled
/// there last time is not compiled again.
pub struct Project(pub PathBuf);

impl Project {
    pub fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("plugin-project-{name}"));
        let _ = fs::remove_dir_all(&copy);
        copy_folder(&root.join("sdk"), &copy.join("sdk"));
        fs::create_dir_all(copy.join("plugins/workshop")).unwrap();
        for file in ["Cargo.lock", "clippy.toml", "rustfmt.toml"] {
            fs::copy(root.join(file), copy.join(file)).unwrap();
        }
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let (before, after) = manifest.split_once("members = [").unwrap();
        let (_, after) = after.split_once("[workspace.package]").unwrap();
        let members = r#"members = ["sdk", "plugins/workshop/*"]"#;
        let manifest = format!("{before}{members}\n\n[workspace.package]{after}");
        fs::write(copy.join("Cargo.toml"), manifest).unwrap();
        Self(copy)
    }

    pub fn output(&self, program: &str, args: &[&str]) -> Output {
        self.command(program, args).output().unwrap()
    }

    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-target");
        command.args(args).current_dir(&self.0).env("CARGO_TARGET_DIR", target);
        command.env("CARGO_NET_OFFLINE", "true").env_remove("ECHO_URL").env_remove("ECHO_CONFIG");
        command.env("XDG_STATE_HOME", self.0.join("state"));
        command
    }

    /// Runs the program to a good end; gives its standard output.
    #[track_caller]
    pub fn echo_core(&self, args: &[&str]) -> String {
        self.succeeds(env!("CARGO_BIN_EXE_echo-core"), args)
    }

    #[track_caller]
    pub fn succeeds(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{program} {args:?}\n{stdout}\n{stderr}");
        stdout
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
