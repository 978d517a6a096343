//! Programs that a library does nothing for: named, with what helps instead, before anything is started.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tidewait_lab::skip;

use crate::bench::{exec, said_wrong};

/// Runs `exec --no-port` with a program that writes a file if it is started, and what it says; it must not be.
fn refusal(program: &Path) -> String {
    let output = exec(&["--no-port"], &[program.to_str().unwrap()]).output().unwrap();
    let said = said_wrong(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    assert!(said.contains("--spread"), "{said}");
    said
}

fn compiled(
    place: &Path,
    name: &str,
    compiler: &str,
    arguments: &[&str],
    source: &str,
) -> Option<std::path::PathBuf> {
    let file = place.join(format!("{name}.c"));
    std::fs::write(&file, source).unwrap();
    let program = place.join(name);
    let status = Command::new(compiler).args(arguments).arg(&file).arg("-o").arg(&program).status();
    status.is_ok_and(|status| status.success()).then_some(program)
}

const HELLO: &str = "#include <stdio.h>\nint main(void) { return puts(\"started\") < 0; }\n";

#[test]
fn a_static_program_and_a_script_that_one_runs() {
    const TEST: &str = "a_static_program_and_a_script_that_one_runs";
    let place = tempfile::tempdir().unwrap();
    let Some(program) = compiled(place.path(), "static", "cc", &["-static"], HELLO) else {
        return skip(TEST, "needs a C compiler and a static libc");
    };
    let said = refusal(&program);
    assert!(said.contains("static: it is linked statically"), "{said}");
    let script = place.path().join("script");
    std::fs::write(&script, format!("#!{}\n", program.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(refusal(&script), said);
}

#[test]
fn a_program_with_the_marks_of_go() {
    const TEST: &str = "a_program_with_the_marks_of_go";
    let place = tempfile::tempdir().unwrap();
    let source = format!(
        "{HELLO}__attribute__((section(\".go.buildinfo\"), used)) const char info[16] = \"\\xff Go buildinf:\";\n"
    );
    let Some(program) = compiled(place.path(), "go", "cc", &[], &source) else {
        return skip(TEST, "needs a C compiler");
    };
    assert!(refusal(&program).contains("written in Go"));
}

#[test]
fn a_program_that_gets_rights_of_its_own() {
    const TEST: &str = "a_program_that_gets_rights_of_its_own";
    if !rustix::process::geteuid().is_root() {
        return skip(TEST, "needs root");
    }
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("setgid");
    std::fs::copy("/bin/sh", &program).unwrap();
    std::os::unix::fs::chown(&program, None, Some(12)).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o2755)).unwrap();
    assert!(refusal(&program).contains("gets rights by itself"));
}

#[test]
fn what_is_not_there_or_no_program_ends_as_under_env() {
    let place = tempfile::tempdir().unwrap();
    let plain = place.path().join("plain");
    std::fs::write(&plain, "text").unwrap();
    let dangling = place.path().join("dangling");
    std::fs::write(&dangling, "#!/nowhere/at/all\n").unwrap();
    std::fs::set_permissions(&dangling, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (name, code) in [
        ("no-such-program-anywhere", 127),
        ("/no/such/program", 127),
        (dangling.to_str().unwrap(), 127),
        (plain.to_str().unwrap(), 126),
        ("/", 126),
    ] {
        let ended = exec(&["--no-port"], &[name]).output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{name}: {}", said_wrong(&ended));
        assert!(said_wrong(&ended).contains(name), "{}", said_wrong(&ended));
    }
    let said = said_wrong(&exec(&["--no-port"], &[dangling.to_str().unwrap()]).output().unwrap());
    assert!(said.contains("there is no /nowhere/at/all, which its first line names"), "{said}");
}

/// As execvp(3) does it, on either way to start a command.
#[test]
fn a_script_without_a_first_line_is_run_by_the_shell() {
    let place = tempfile::tempdir().unwrap();
    let script = place.path().join("script");
    std::fs::write(&script, "exit $1\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    for ways in [&["--no-port"][..], &["--reap", "10s", "--no-port"], &["--steer"]] {
        let ended = exec(ways, &[script, "17"]).output().unwrap();
        let (code, said) = (ended.status.code(), said_wrong(&ended));
        // Without the rights there is no more to see.
        assert!(code == Some(17) || code == Some(77), "{ways:?}: {code:?} {said}");
    }
}

#[test]
fn wrong_usage_names_what_there_is() {
    let said = said_wrong(&exec(&[], &["true"]).output().unwrap());
    assert!(said.contains("--no-port"), "{said}");
    for arguments in
        [["exec", "--no-port"].as_slice(), &["exec", "--no-port", "true"], &["exec", "--no-port", "--"]]
    {
        let output = Command::new(crate::bench::TIDEWAIT).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said_wrong(&output).contains("-- <COMMAND>"), "{}", said_wrong(&output));
    }
}
