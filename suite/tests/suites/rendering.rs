//! What a person sees in the terminal.

use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::kit;

fn render(text: &str) -> String {
    let faults = kit::load(text).unwrap_err();
    let mut out = String::new();
    let theme = GraphicalTheme::unicode_nocolor();
    GraphicalReportHandler::new_themed(theme).render_report(&mut out, &faults).unwrap();
    out
}

#[test]
fn a_service_that_does_not_exist_is_underlined() {
    let text = "[services.web]\ntype = \"process\"\ncommand = [\"web\"]\ndepends_on = [\"dbb\"]\n\
                [[steps]]\nname = \"s\"\ncommand = [\"true\"]\n";
    let out = render(text);
    for line in [
        "  × `depends_on` names the service `dbb`, which the suite does not have",
        "shop.suite.toml:4:15]",
        " 4 │ depends_on = [\"dbb\"]",
        "   ·               ─────",
        "  help: the suite's services are `web`",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
}

#[test]
fn several_faults_follow_one_another_under_a_headline() {
    let out = render("nmae = \"x\"\n[[steps]]\nname = \"s\"\ntimeout = 5\n");
    for line in [
        "shop.suite.toml has 3 faults",
        "  × unknown key `nmae`; did you mean `name`?",
        "shop.suite.toml:1:1]",
        "   · ──┬─",
        "   ·   ╰── unknown key",
        "  × missing key `command` in `steps[0]`",
        "shop.suite.toml:2:1]",
        "   ·     ╰── needs `command`",
        "  help: `command`: The program and its arguments",
        "  × `steps[0].timeout` is the integer 5; it must be a string",
        "   ·           ╰── must be a string",
        "  help: write it such as \"250ms\", \"5s\" or \"2m\"",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
}
