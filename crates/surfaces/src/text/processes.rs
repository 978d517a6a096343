//! Processes near their limit of open files, or with sockets that have no connection any more.

use tidewait_model::machine::Process;

use super::line::{Line, Paint};
use super::page::Paper;
use super::{number, owner};

/// From this share of its limit on, a process is painted as near it.
const NEAR: f64 = 0.8;

/// Those that the report names, one a line.
/// `namespaces`: how many the report is about; where it is one, nobody has to be told which.
pub fn write(paper: &mut Paper<'_>, processes: &[Process], namespaces: usize) {
    if processes.is_empty() {
        return;
    }
    paper.heading("Processes");
    let top = paper.page().top;
    for process in processes.iter().take(top) {
        paper.flow(2, [Line::plain(owner::name(&process.owner)), descriptors(process)]);
        let mut facts = Vec::new();
        if let Some(hard) =
            process.descriptor_limit_hard.filter(|hard| Some(*hard) != process.descriptor_limit)
        {
            facts.push(Line::of(Paint::Faint, format!("may raise that to {}", number::count(hard))));
        }
        if let Some(sockets) = process.sockets_without_connection.filter(|sockets| *sockets > 0) {
            let text = number::of(sockets, "socket without a connection", "sockets without a connection");
            facts.push(Line::of(Paint::Warning, text));
        }
        if let Some(namespace) = process.namespace.as_ref().filter(|_| namespaces > 1) {
            facts.push(Line::of(Paint::Faint, format!("in {namespace}")));
        }
        paper.flow(4, facts);
    }
    let hidden = processes.len().saturating_sub(top) as u64;
    if hidden > 0 {
        let text = format!("and {}", number::of(hidden, "more process", "more processes"));
        paper.prose(Line::plain("  "), Paint::Faint, &text);
    }
}

/// `9,800 of 10,240 open files, 95 %`
fn descriptors(process: &Process) -> Line {
    let open = number::count(process.descriptors);
    let Some(limit) = process.descriptor_limit.filter(|limit| *limit > 0) else {
        return Line::plain(format!("{open} open files, limit not known"));
    };
    let share = process.descriptors as f64 / limit as f64;
    let paint = match share {
        share if share >= 1.0 => Paint::Critical,
        share if share >= NEAR => Paint::Warning,
        _ => Paint::Plain,
    };
    Line::of(paint, format!("{open} of {} open files, {}", number::count(limit), number::percent(share)))
}
