//! The programs that plugins are built with.

use std::process::{Command, Stdio};

use super::{Finding, Looked};

/// Looks for them on the path.
pub fn look() -> Vec<Finding> {
    vec![
        Finding::new(
            "cargo",
            version("cargo"),
            "`echo-core plugin build` cannot compile plugins",
            "install Rust from https://rustup.rs",
        ),
        Finding::new(
            "C compiler",
            version("cc"),
            "Rust cannot link what it compiles, plugins included",
            "`apt-get install gcc`",
        ),
    ]
}

fn version(program: &str) -> Looked {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(text.lines().next().unwrap_or(program).to_owned())
        }
        Ok(output) => Err(format!("`{program} --version` ended with {}", output.status)),
        Err(error) => Err(format!("`{program}` cannot be run: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        assert!(version("no-such-program").unwrap_err().contains("`no-such-program`"));
        assert!(version("cargo").unwrap().starts_with("cargo "));
    }
}
