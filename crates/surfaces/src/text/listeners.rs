//! Accept queues: the listeners with connections that wait to be accepted, and how many more may.

use tidewait_model::report::Listener;

use super::line::{Line, Paint};
use super::page::Paper;
use super::{number, owner};

/// The listeners with a queue, as the report orders them: the fullest first.
pub fn write(paper: &mut Paper<'_>, listeners: &[Listener]) {
    let waiting: Vec<&Listener> = listeners.iter().filter(|listener| has_queue(listener)).collect();
    if waiting.is_empty() {
        return;
    }
    let lead = Line::plain("  ").with(Paint::Strong, "accept queues  ");
    paper.prose(lead, Paint::Faint, "connected, and waiting for the program to take them");
    let top = paper.page().top;
    for listener in waiting.iter().take(top) {
        let mut facts = vec![Line::plain(&listener.local), queue(listener)];
        if listener.sockets > 1 {
            let of = format!("{} of {} sockets full", listener.full, number::count(listener.sockets.into()));
            facts.push(Line::plain(of));
        }
        paper.flow(4, facts);
        paper.flow(6, [Line::of(Paint::Faint, owner::list(&listener.owners))]);
    }
    let hidden = waiting.len().saturating_sub(top) as u64;
    if hidden > 0 {
        let text = format!("and {}", number::of(hidden, "more listener", "more listeners"));
        paper.prose(Line::plain("    "), Paint::Faint, &text);
    }
}

/// Whether somebody waits there.
pub fn has_queue(listener: &Listener) -> bool {
    listener.queue > 0 || listener.full > 0
}

/// `129 waiting, limit 128: full`
fn queue(listener: &Listener) -> Line {
    let text = format!(
        "{} waiting, limit {}",
        number::count(listener.queue.into()),
        number::count(listener.limit.into())
    );
    if listener.full > 0 {
        Line::of(Paint::Critical, text + ": full")
    } else if u64::from(listener.queue) * 2 > u64::from(listener.limit) {
        Line::of(Paint::Warning, text)
    } else {
        Line::plain(text)
    }
}
