//! Each thing that can be wrong with a suite: its line, its key, its words.

use crate::kit::faults;

/// The one fault of a text: "line key: message | help".
fn the_fault(text: &str) -> String {
    let faults = faults(text);
    let told: Vec<String> = faults
        .iter()
        .map(|fault| {
            let help = fault.help.as_deref().unwrap_or("-");
            format!("{} {}: {} | {help}", fault.line, fault.key, fault.message)
        })
        .collect();
    assert_eq!(told.len(), 1, "{text}\n{told:#?}");
    told.concat()
}

const STEP: &str = "[[steps]]\nname = 's'\ncommand = ['true']\n";
const DB: &str = "[services.db]\ntype = 'process'\ncommand = ['db']\nports = [5432, 'admin']\n";

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
    for (text, told) in [
        (
            "descrption = 'x'\n".to_owned() + STEP,
            "1 descrption: unknown key `descrption`; did you mean `description`? | -",
        ),
        (
            STEP.to_owned() + "comandd = []",
            "4 steps[0].comandd: unknown key `comandd` in `steps[0]` | the keys here are",
        ),
        (
            STEP.to_owned() + "expected_regex = 'x'",
            "4 steps[0].expected_regex: unknown key `expected_regex` in `steps[0]`; did you mean `expected_output_regex`? | -",
        ),
        // The keys of the type, and those that every service has.
        (DB.to_owned() + "prts = []\n" + STEP, "5 services.db.prts: unknown key"),
        (
            DB.to_owned() + "depend_on = []\n" + STEP,
            "5 services.db.depend_on: unknown key `depend_on` in `services.db`; did you mean `depends_on`? | -",
        ),
        (
            DB.to_owned() + "image = ''\n" + STEP,
            "5 services.db.image: unknown key `image` in `services.db` | the keys here are `command`, `depends_on`, `env`, `ports`, `ready`, `start_timeout`, `stop_timeout` and `type`",
        ),
        (
            DB.to_owned() + "ready.prot = ''\n" + STEP,
            "5 services.db.ready.prot: unknown key `prot` in `services.db.ready`; did you mean `port`? | -",
        ),
        // The loader alone says where a suite is.
        ("dir = '/'\n".to_owned() + STEP, "1 dir: unknown key `dir` | the keys here are"),
        ("file = '/'\n".to_owned() + STEP, "1 file: unknown key `file`"),
    ] {
        let fault = the_fault(&text);
        assert!(fault.starts_with(told), "{fault}");
    }
}

#[test]
fn wrong_types_and_missing_keys_say_what_would_be_right() {
    for (text, told) in [
        (
            "[[steps]]\nname = 's'\ncommand = 'curl -f x'",
            "3 steps[0].command: `steps[0].command` is the string \"curl -f x\"; it must be an array of strings | -",
        ),
        (
            "[[steps]]\nname = 's'",
            "1 steps[0]: missing key `command` in `steps[0]` | `command`: The program and its arguments",
        ),
        (
            "env.PORT = 80\n[[steps]]\nname = 's'\ncommand = ['x']",
            "1 env.PORT: `env.PORT` is the integer 80; it must be a string | write it in quotes: \"80\"",
        ),
        (
            "timeout = 5\n[[steps]]\nname = 's'\ncommand = ['x']",
            "1 timeout: `timeout` is the integer 5; it must be a string | write it such as \"250ms\", \"5s\" or \"2m\"",
        ),
        (
            "timeout = '5 parsecs'\n[[steps]]\nname = 's'\ncommand = ['x']",
            "1 timeout: `timeout` is the string \"5 parsecs\", which is no duration | write it such as \"250ms\", \"5s\" or \"2m\"",
        ),
        (
            "[[steps]]\nname = 's'\ncommand = ['x']\ntimeout = '99999999999999999999h'",
            "4 steps[0].timeout: `steps[0].timeout`: `99999999999999999999h` is no duration; write a number and a unit",
        ),
        (
            "[services.db]\ntype = 'proces'\n[[steps]]\nname = 's'\ncommand = ['x']",
            "2 services.db.type: `services.db.type` is the string \"proces\"; did you mean \"process\"? | it must be \"generic_container\" or \"process\"",
        ),
        (
            "[services.db]\ntype = 'mainframe'\n[[steps]]\nname = 's'\ncommand = ['x']",
            "2 services.db.type: `services.db.type` is the string \"mainframe\"; it must be \"generic_container\" or \"process\" | -",
        ),
        (
            "[services.db]\n[[steps]]\nname = 's'\ncommand = ['x']",
            "1 services.db: missing key `type` in `services.db` | `type`: The type",
        ),
        (
            "[services.db]\ntype = 'process'\n[[steps]]\nname = 's'\ncommand = ['x']",
            "1 services.db: missing key `command` in `services.db` | `command`: What is run.",
        ),
        (
            "[services.db]\ntype = 'generic_container'\nimage = 'i'\nports.http = 70000\n[[steps]]\nname = 's'\ncommand = ['x']",
            "4 services.db.ports.http: `services.db.ports.http` is the integer 70000; it must be at most 65535",
        ),
        (
            "[services.db]\ntype = 'generic_container'\nimage = 'i'\npull = 'missin'\n[[steps]]\nname = 's'\ncommand = ['x']",
            "4 services.db.pull: `services.db.pull` is the string \"missin\"; did you mean \"missing\"? | it must be \"always\", \"missing\" or \"never\"",
        ),
        ("name = 's'\nname = 't'", "2 : this is no TOML: duplicate key"),
    ] {
        let fault = the_fault(text);
        assert!(fault.starts_with(told), "{fault}");
    }
}

#[test]
fn names_are_checked() {
    for (text, told) in [
        (
            "name = 'a b'\n".to_owned() + STEP,
            "1 name: \"a b\" cannot name a suite | use up to 64 letters, digits, `-` and `_`",
        ),
        (
            "[services.'a.b']\ntype = 'process'\ncommand = ['x']\n".to_owned() + STEP,
            "1 services.\"a.b\": \"a.b\" cannot name a service",
        ),
        (
            STEP.to_owned() + STEP,
            "5 steps[1].name: a second step is named `s` | give each step of a test a name of its own",
        ),
        (
            "[[steps]]\nname = ' '\ncommand = ['true']".to_owned(),
            "2 steps[0].name: \" \" cannot name a step",
        ),
        (
            "[[tests]]\nname = 't'\n[[tests.steps]]\nname = 's'\ncommand = ['x']\n".repeat(2),
            "7 tests[1].name: a second test is named `t`",
        ),
        (
            "name = 'x'\n".to_owned()
                + STEP
                + "[[tests]]\nname = 'x'\nsteps = [{ name = 's', command = ['x'] }]",
            "6 tests[0].name: a second test is named `x`",
        ),
        (
            "env.'A=B' = ''\n".to_owned() + STEP,
            "1 env.\"A=B\": \"A=B\" cannot name an environment variable",
        ),
    ] {
        let fault = the_fault(&text);
        assert!(fault.starts_with(told), "{fault}");
    }
}

#[test]
fn a_suite_has_steps_and_a_step_has_a_command() {
    for (text, told) in [
        ("name = 'x'", "1 : the suite has no steps | add a step: `[[steps]]`"),
        (
            "[[tests]]\nname = 't'\nsteps = []",
            "1 tests[0]: the test `t` has no steps | add `[[tests.steps]]`",
        ),
        ("[[steps]]\nname = 's'\ncommand = []", "3 steps[0].command: `command` names no program"),
        (
            "[[steps]]\nname = 's'\ncommand = ['', 'x']",
            "3 steps[0].command: `command` names no program",
        ),
        (
            "[[steps]]\nname = 's'\ncommand = ['x']\ntimeout = '0s'",
            "4 steps[0].timeout: `timeout` is 0",
        ),
        (
            "[[steps]]\nname = 's'\ncommand = ['x']\nexpected_output_regex = 'a(b'",
            "4 steps[0].expected_output_regex: \"a(b\" is no regular expression: unclosed group",
        ),
    ] {
        let fault = the_fault(text);
        assert!(fault.starts_with(told), "{fault}");
    }
}

#[test]
fn services_that_are_named_exist() {
    for (text, told) in [
        (
            STEP.to_owned() + "service = 'dbb'\n" + DB,
            "4 steps[0].service: `service` names the service `dbb`, which the suite does not have | the suite's services are `db`",
        ),
        (
            STEP.to_owned() + "service = 'db'\n",
            "4 steps[0].service: `service` names the service `db`, which the suite does not have | the suite has no services",
        ),
        (
            DB.to_owned() + "depends_on = [\n  'cache',\n]\n" + STEP,
            "6 services.db.depends_on[0]: `depends_on` names the service `cache`",
        ),
        (
            STEP.to_owned() + "env.A = 'x${services.web.host}'\n" + DB,
            "4 steps[0].env.A: `${services.web.host}` names a service that the suite does not have | the suite's services are `db`",
        ),
        (
            STEP.to_owned() + "env.A = '${services.db.ports.80}'\n" + DB,
            "4 steps[0].env.A: `${services.db.ports.80}` names a port that `db` does not have | the service's ports are `5432`, `admin`",
        ),
        (
            STEP.to_owned() + "workdir = '${HOME}'\n",
            "4 steps[0].workdir: `${HOME}` at character 1 of \"${HOME}\" is no reference",
        ),
        (
            STEP.to_owned() + "workdir = '${env.HOME'\n",
            "4 steps[0].workdir: the reference at character 1",
        ),
        (
            DB.to_owned() + "env.A = '${services.b.host}'\n" + STEP,
            "5 services.db.env.A: `${services.b.host}` names a service",
        ),
    ] {
        let fault = the_fault(&text);
        assert!(fault.starts_with(told), "{fault}");
    }
}

#[test]
fn readiness_checks_something_that_is_there() {
    for (ready, told) in [
        ("ready = {}", "5 services.db.ready: `ready` checks nothing"),
        (
            "ready.port = '80'",
            "5 services.db.ready.port: `ready.port` is `80`, which is no port of the service | the service's ports are `5432`, `admin`",
        ),
        (
            "ready.http = '/'",
            "5 services.db.ready.http: `ready.http` does not say on which port | set `ready.port`; the service's ports are `5432`, `admin`",
        ),
        (
            "ready = { port = 'admin', http = 'health' }",
            "5 services.db.ready.http: `ready.http` is \"health\", which is no path | write \"/health\"",
        ),
        ("ready.log = '['", "5 services.db.ready.log: \"[\" is no regular expression"),
        ("ready.command = []", "5 services.db.ready.command: `command` names no program"),
        ("start_timeout = '0s'", "5 services.db.start_timeout: `start_timeout` is 0"),
    ] {
        let fault = the_fault(&format!("{DB}{ready}\n{STEP}"));
        assert!(fault.starts_with(told), "{fault}");
    }
}

#[test]
fn services_that_wait_for_each_other_are_named_in_order() {
    let service = |name: &str, rest: &str| {
        format!("[services.{name}]\ntype = 'process'\ncommand = ['x']\n{rest}\n")
    };
    let cycle = service("a", "depends_on = ['b']")
        + &service("b", "env.C = '${services.c.host}'")
        + &service("c", "depends_on = ['d', 'a']")
        + &service("d", "")
        + STEP;
    let told = "4 services.a.depends_on: the services wait for each other: `a` -> `b` -> `c` -> `a` | take one";
    assert!(the_fault(&cycle).starts_with(told), "{}", the_fault(&cycle));
    let itself = service("a", "env.PORT = '${services.a.ports.x}'") + STEP;
    let told = "1 services.a.depends_on: the service `a` depends on itself";
    assert!(the_fault(&itself).starts_with(told), "{}", the_fault(&itself));
}

#[test]
fn all_faults_of_a_file_are_told_at_once_in_the_order_of_their_lines() {
    let text = "[[steps]]\nname = 's'\ncommand = []\nservice = 'x'\nexpected_output_regex = '('";
    let lines: Vec<usize> = faults(text).iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [3, 4, 5]);
    let text = "nme = 'x'\n[[steps]]\ncommand = 5\nservce = 'x'\n[services.x]\ntype = 'y'";
    let lines: Vec<usize> = faults(text).iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [1, 2, 3, 4, 6]);
}
