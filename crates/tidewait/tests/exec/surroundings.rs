//! Surroundings that are not as usual: what `exec` makes of them, and that the command notices nothing.

use std::fs::OpenOptions;

use crate::bench::{can_steer, exec, until_gone};

#[test]
fn a_message_that_cannot_be_written_changes_nothing() {
    if !can_steer("a_message_that_cannot_be_written_changes_nothing") {
        return;
    }
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    // One message while somebody goes on in the background, and others in the end.
    let script = "(sleep 0.3; echo done) & exit 3";
    let mut command = exec(&["--steer", "--no-port", "-v"], &["sh", "-c", script]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(full()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"done\n".as_slice()));
    until_gone(pid);
    // Nor is another exit code given to what did not start.
    for (options, command, code) in
        [(["--steer", "-v"], "no-such-program-anywhere", 127), (["--spread", "203.0.113.1"], "true", 2)]
    {
        let status = exec(&options, &[command]).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{options:?}");
    }
}
