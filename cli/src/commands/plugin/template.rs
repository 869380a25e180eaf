//! The files of a new plugin, from its template.

use std::fmt::Write as _;
use std::path::Path;

use crate::args::Template;

/// A file's place in the plugin's folder, and its text. In the text `{{name}}` stands for the plugin's name, `{{crate}}`
/// for that name within a crate's. Its types have names of their own, for one that is made of the plugin's could be another's.
type File = (&'static str, &'static str);

const BASIC: &[File] = &[
    ("manifest.json", include_str!("../../../templates/plugin/basic/manifest.json.in")),
    ("src/lib.rs", include_str!("../../../templates/plugin/basic/lib.rs.in")),
    ("src/tests.rs", include_str!("../../../templates/plugin/basic/tests.rs.in")),
];

const PROCESSOR: &[File] = &[
    ("manifest.json", include_str!("../../../templates/plugin/processor/manifest.json.in")),
    ("src/lib.rs", include_str!("../../../templates/plugin/processor/lib.rs.in")),
    ("src/processor.rs", include_str!("../../../templates/plugin/processor/processor.rs.in")),
    ("src/tests.rs", include_str!("../../../templates/plugin/processor/tests.rs.in")),
];

const SERVICE: &[File] = &[
    ("manifest.json", include_str!("../../../templates/plugin/service/manifest.json.in")),
    ("src/lib.rs", include_str!("../../../templates/plugin/service/lib.rs.in")),
    ("src/service.rs", include_str!("../../../templates/plugin/service/service.rs.in")),
    ("src/tests.rs", include_str!("../../../templates/plugin/service/tests.rs.in")),
];

const OBSERVER: &[File] = &[
    ("manifest.json", include_str!("../../../templates/plugin/observer/manifest.json.in")),
    ("src/lib.rs", include_str!("../../../templates/plugin/observer/lib.rs.in")),
    ("src/tests.rs", include_str!("../../../templates/plugin/observer/tests.rs.in")),
];

/// A crate that a plugin builds on.
struct Needed {
    name: &'static str,
    features: &'static [&'static str],
}

const fn needed(name: &'static str, features: &'static [&'static str]) -> Needed {
    Needed { name, features }
}

/// What a template needs to build, and to be tested.
fn needs(template: Template) -> (Vec<Needed>, Vec<Needed>) {
    let (sdk, serde) = (needed("echo-sdk", &[]), needed("serde", &[]));
    let json = needed("serde_json", &[]);
    let runtime = needed("tokio", &["macros", "rt"]);
    match template {
        Template::Basic | Template::Observer => (vec![sdk, serde], vec![json, runtime]),
        Template::Processor => (vec![sdk, serde], vec![runtime]),
        Template::Service => {
            let sdk = needed("echo-sdk", &["service"]);
            let tokio = needed("tokio", &["io-util", "macros", "net", "rt", "sync"]);
            (vec![sdk, serde, json, tokio], vec![needed("tokio", &["time"])])
        }
    }
}

/// Where the plugin's crate is.
#[derive(Debug, Clone, Copy)]
pub enum Home<'a> {
    /// In the workspace of Echo Core, from which it takes versions and lints.
    Workspace,
    /// By itself, with the SDK in this folder.
    Alone {
        /// The folder of the SDK.
        sdk: &'a Path,
    },
}

/// The files of a plugin of this name: where each goes, and what is in it.
pub fn files(template: Template, name: &str, home: Home<'_>) -> Vec<(&'static str, String)> {
    let texts = match template {
        Template::Basic => BASIC,
        Template::Processor => PROCESSOR,
        Template::Service => SERVICE,
        Template::Observer => OBSERVER,
    };
    let fill =
        |text: &str| text.replace("{{name}}", name).replace("{{crate}}", &name.replace('-', "_"));
    let cargo = [("Cargo.toml", cargo_toml(template, name, home))];
    cargo.into_iter().chain(texts.iter().map(|(path, text)| (*path, fill(text)))).collect()
}

fn cargo_toml(template: Template, name: &str, home: Home<'_>) -> String {
    let (package, lints, end) = match home {
        Home::Workspace => (
            "version.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
             license.workspace = true\npublish.workspace = true\n",
            "[lints]\nworkspace = true\n",
            "",
        ),
        Home::Alone { .. } => (
            "version = \"0.1.0\"\nedition = \"2024\"\npublish = false\n",
            "[lints.rust]\nunsafe_code = \"deny\"\n",
            "\n# How `echo-core plugin build --profile production` compiles it.\n\
             [profile.production]\ninherits = \"release\"\nlto = \"fat\"\ncodegen-units = 1\n\
             \n# It belongs to no workspace around it.\n[workspace]\n",
        ),
    };
    let (normal, development) = needs(template);
    let table = |needed: Vec<Needed>| needed.iter().map(|it| line(it, home)).collect::<String>();
    format!(
        "[package]\nname = \"echo-plugin-{name}\"\ndescription = \"The {name} plugin\"\n{package}\n{lints}\n\
         [lib]\n# The library that a host loads, and one that programs can link.\n\
         crate-type = [\"cdylib\", \"rlib\"]\n\n[dependencies]\n{}\n[dev-dependencies]\n{}{end}",
        table(normal),
        table(development),
    )
}

/// A dependency as it stands in a `Cargo.toml`.
fn line(Needed { name, features }: &Needed, home: Home<'_>) -> String {
    let mut keys = match home {
        Home::Workspace if features.is_empty() => return format!("{name}.workspace = true\n"),
        Home::Workspace => "workspace = true".to_owned(),
        // A path in TOML needs no more quoting than a Rust string has.
        Home::Alone { sdk } if *name == "echo-sdk" => {
            format!("path = {:?}", sdk.display().to_string())
        }
        Home::Alone { .. } => "version = \"1\"".to_owned(),
    };
    let derive: &[&str] = &["derive"];
    let is_alone = matches!(home, Home::Alone { .. });
    let features = if is_alone && *name == "serde" { derive } else { features };
    if is_alone && *name == "tokio" {
        keys.push_str(", default-features = false");
    }
    if !features.is_empty() {
        // Writing to a String does not fail.
        let _ = write!(keys, ", features = {features:?}");
    }
    format!("{name} = {{ {keys} }}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_template_is_filled_in_and_its_manifest_is_sound() {
        for template in Template::value_variants() {
            let files = files(*template, "my-plugin", Home::Workspace);
            for (path, text) in &files {
                assert!(!text.contains("{{"), "{template:?} {path}: {text}");
            }
            let text = |wanted: &str| &files.iter().find(|(path, _)| *path == wanted).unwrap().1;
            assert!(text("src/lib.rs").contains("my-plugin"));
            let hooks: &[&str] = match template {
                Template::Observer => &["test.step.ended"],
                _ => &[],
            };
            let manifest =
                echo_sdk::Manifest::with_subscriptions(text("manifest.json"), hooks).unwrap();
            assert_eq!(manifest.name, "my-plugin");
            assert!(manifest.config_schema.is_some() && !manifest.examples.is_empty());
            assert!(manifest.examples.iter().all(|it| it.expect_status.is_some()));
        }
    }

    #[test]
    fn a_crate_by_itself_names_its_sdk_and_no_workspace() {
        let home = Home::Alone { sdk: Path::new("/a b/sdk") };
        let (_, cargo) = files(Template::Service, "x", home).remove(0);
        let sdk = r#"echo-sdk = { path = "/a b/sdk", features = ["service"] }"#;
        assert!(cargo.contains(sdk) && !cargo.contains("workspace = true"), "{cargo}");
        assert!(cargo.contains("[workspace]\n") && cargo.contains("[profile.production]"));
    }
}
