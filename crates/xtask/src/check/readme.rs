//! The README promises exactly two set-up commands; this counts them.

const HEADING: &str = "## Set-up";

/// What is wrong with the set-up block of the README.
pub fn complaints(readme: &str) -> Vec<String> {
    let commands = commands(readme);
    match commands.as_slice() {
        [report, test] if report.starts_with("./dev report") && test.starts_with("./dev test") => Vec::new(),
        other => vec![format!(
            "README.md: the first code block under `{HEADING}` must be `./dev report` and `./dev test`, found {other:?}"
        )],
    }
}

/// The lines of the first fenced block after the heading, without comments.
fn commands(readme: &str) -> Vec<&str> {
    readme
        .lines()
        .skip_while(|line| *line != HEADING)
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"))
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_commands_no_more_no_less() {
        let readme = |body: &str| format!("# x\n```\nother\n```\n## Set-up\n\ntext\n```sh\n{body}```\n");
        assert!(complaints(&readme("./dev report   # the main job\n./dev test\n")).is_empty());
        assert_eq!(complaints(&readme("./dev report\n")).len(), 1);
        assert_eq!(complaints(&readme("apt-get install x\n./dev report\n./dev test\n")).len(), 1);
        assert_eq!(complaints("# no such heading\n").len(), 1);
    }
}
