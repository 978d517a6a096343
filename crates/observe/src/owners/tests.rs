//! Who is told of, and in which order.

use super::*;

fn process(pid: u32, command: &str, unit: Option<&str>) -> Process {
    Process { pid, command: command.to_owned(), unit: unit.map(str::to_owned), ..Process::default() }
}

/// Holders of the sockets 1, 2, 3, ...: for each the index of its process and the sharers.
fn holders(processes: Vec<Process>, sockets: &[(u32, u32)]) -> Holders {
    let held = sockets.iter().map(|&(leader, sharers)| Held { leader, sharers });
    Holders { processes, by_inode: (1..).zip(held).collect(), ..Holders::default() }
}

#[test]
fn processes_of_one_kind_are_one_owner_and_only_a_single_one_has_a_pid() {
    let holders = holders(
        vec![
            process(10, "php", Some("a.service")),
            process(11, "php", Some("a.service")),
            process(12, "php", None),
        ],
        &[(0, 1), (1, 1), (1, 1), (2, 1)],
    );
    let owners = summarise(&holders, 1..=8, OwnerBasis::LiveSockets);
    let told: Vec<_> = owners.iter().map(|owner| (owner.unit.as_deref(), owner.pid, owner.share)).collect();
    assert_eq!(told, [(Some("a.service"), None, 3.0 / 8.0), (None, Some(12), 1.0 / 8.0)]);
    assert!(owners.iter().all(|owner| owner.how == OwnerBasis::LiveSockets));
}

#[test]
fn a_socket_that_several_processes_share_has_no_single_pid() {
    let holders = holders(vec![process(10, "nginx", None)], &[(0, 5)]);
    let owners = summarise(&holders, [1], OwnerBasis::ListeningSocket);
    assert_eq!((owners[0].pid, owners[0].share), (None, 1.0));
}

#[test]
fn the_five_with_most_sockets_are_told_and_ties_go_by_pid() {
    let processes = (0..7).map(|index| process(100 + index, &format!("c{index}"), None)).collect();
    let holders = holders(processes, &[(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (6, 1)]);
    let owners = summarise(&holders, 1..=8, OwnerBasis::LiveSockets);
    let told: Vec<_> = owners.iter().map(|owner| owner.command.as_str()).collect();
    assert_eq!(told, ["c6", "c0", "c1", "c2", "c3"]);
}

#[test]
fn nothing_asked_or_nothing_known_is_nobody() {
    let none = Holders::default();
    assert_eq!(summarise(&none, [], OwnerBasis::LiveSockets), []);
    assert_eq!(summarise(&none, [4, 5], OwnerBasis::LiveSockets), []);
}
