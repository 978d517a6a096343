//! Sockets in states that ought to pass: how many, who holds them, how long they have been silent, what nobody read.

use tidewait_model::lingering::{Peer, Silence};
use tidewait_model::{Lingering, State};

use super::line::{Line, Paint};
use super::page::Paper;
use super::{number, owner};

/// Peers named of one group.
const PEERS: usize = 2;

/// Every group, as the report orders them.
pub fn write(paper: &mut Paper<'_>, groups: &[Lingering]) {
    if groups.is_empty() {
        return;
    }
    let lead = Line::plain("  ").with(Paint::Strong, "lingering  ");
    paper.prose(lead, Paint::Faint, "in states that ought to pass");
    let top = paper.page().top;
    for group in groups.iter().take(top) {
        let lead = Line::plain("    ").with(Paint::Plain, format!("{} ", group.state.title()));
        let lead = lead.with(Paint::Strong, number::count(group.sockets)).with(Paint::Plain, " ");
        paper.prose(lead, Paint::Plain, &holder(group));
        let details = details(group);
        if !details.is_empty() {
            paper.prose(Line::plain("      "), Paint::Faint, &details.join("; "));
        }
    }
    let hidden = groups.len().saturating_sub(top) as u64;
    if hidden > 0 {
        let text = format!("and {}", number::of(hidden, "more group", "more groups"));
        paper.prose(Line::plain("    "), Paint::Faint, &text);
    }
}

/// `held by app (app.service, pid 123), silent for 5 min to 2 h, half of them over 40 min`
fn holder(group: &Lingering) -> String {
    let mut text = match (&group.owner, group.held) {
        (Some(owner), _) => format!("held by {}, {}", owner::name(owner), owner::known(owner.how)),
        (None, true) => "held by a program that could not be found out".to_owned(),
        (None, false) => "orphans: closed by their program, left to the kernel".to_owned(),
    };
    if let Some(silence) = &group.silence {
        text.push_str(&silent(silence));
    }
    text
}

fn silent(silence: &Silence) -> String {
    let [shortest, median, longest] = [silence.shortest, silence.median, silence.longest].map(span);
    if shortest == longest {
        return format!(", silent for {longest}");
    }
    let half = if median == shortest || median == longest {
        String::new()
    } else {
        format!(", half of them over {median}")
    };
    format!(", silent for {shortest} to {longest}{half}")
}

/// A time span; from a minute on without its seconds.
fn span(seconds: f64) -> String {
    number::duration(if seconds >= 60.0 { (seconds / 60.0).floor() * 60.0 } else { seconds })
}

/// What was seen when they were looked at closely.
fn details(group: &Lingering) -> Vec<String> {
    let mut details = Vec::new();
    if group.looked_at < group.sockets {
        details.push(format!("{} of them looked at", number::count(group.looked_at)));
    }
    if group.unread_end > 0 {
        details.push(format!("{} with an end of file that was never read", number::count(group.unread_end)));
    }
    if group.unread_data > 0 {
        let bytes = number::of(group.unread_bytes, "unread byte", "unread bytes");
        details.push(format!("{} with {bytes}", number::count(group.unread_data)));
    }
    if group.retransmitting > 0 {
        let times = number::of(group.retransmits_max.into(), "time", "times");
        details.push(format!("{} retransmitting, up to {times}", number::count(group.retransmitting)));
    }
    if group.zero_window > 0 {
        details.push(format!("{} with a peer that takes no more data", number::count(group.zero_window)));
    }
    // Where a program holds its end open, keepalive is what could find a dead peer.
    let keepalive_counts = matches!(group.state, State::CloseWait | State::FinWait2);
    if group.held && keepalive_counts && group.looked_at > 0 {
        details.push(match group.keepalive {
            0 => "none with keepalive".to_owned(),
            some => format!("{} with keepalive", number::count(some)),
        });
    }
    let mut peers: Vec<String> = group.peers.iter().take(PEERS).map(peer).collect();
    let more = group.peers_total.saturating_sub(peers.len() as u64);
    if more > 0 && !peers.is_empty() {
        peers.push(number::of(more, "more peer", "more peers"));
    }
    if !peers.is_empty() {
        details.push(peers.join(", "));
    }
    details
}

/// `10.0.2.9:3306 200`, or with the service that the connection came in to.
fn peer(peer: &Peer) -> String {
    let count = number::count(peer.sockets);
    match &peer.service {
        None => format!("{count} to {}", peer.peer),
        Some(service) => format!("{count} from {} to {service}", peer.peer),
    }
}
