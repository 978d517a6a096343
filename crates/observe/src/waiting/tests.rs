//! Looks at rows made by hand.

use super::*;
use crate::sock_diag::encode::Socket;

fn folded(wish: &Wish, sockets: &[Socket]) -> Look<Handle> {
    folded_where(wish, PortSet::default(), sockets)
}

fn folded_where(wish: &Wish, steered: PortSet, sockets: &[Socket]) -> Look<Handle> {
    folded_with(wish, steered, sockets, &mut |_, _| false)
}

fn folded_with<'a>(
    wish: &'a Wish,
    steered: PortSet,
    sockets: &[Socket],
    take: &'a mut Take<'a>,
) -> Look<Handle> {
    let mut settings = Settings::default();
    settings.0.insert("net.ipv4.ip_local_port_range".to_owned(), "32768 60999".to_owned());
    settings.0.insert("net.ipv4.tcp_fin_timeout".to_owned(), "30".to_owned());
    let ports = Ports { range: settings.port_range(), steered };
    let mut fold = Fold::new(wish, &settings, &ports, true, Instant::now(), take);
    for socket in sockets {
        let payload = socket.payload();
        let row = Row::read(&payload).unwrap();
        if socket.state == State::Listen { fold.idle(&row) } else { fold.connection(&row) }
    }
    fold.finish()
}

fn wish(states: &[Reapable]) -> Wish {
    Wish {
        root: "/".into(),
        states: states.to_vec(),
        only: Filter::default(),
        incoming: false,
        every_port: true,
    }
}

#[test]
fn a_steered_port_waits_as_an_outgoing_one() {
    let sockets = [Socket::time_wait("10.0.0.1:22268", "10.0.0.2:40000", 55_000)];
    assert_eq!(folded(&wish(&[Reapable::TimeWait]), &sockets).waiting.len(), 0);
    let steered = (22_268..=29_999).collect();
    assert_eq!(folded_where(&wish(&[Reapable::TimeWait]), steered, &sockets).waiting.len(), 1);
}

#[test]
fn only_the_states_that_are_named_wait_and_every_one_holds_its_port() {
    let sockets = [
        Socket::time_wait("10.0.0.1:40000", "10.0.0.2:80", 55_000),
        Socket { timer: (3, 20_000), ..Socket::new(State::FinWait2, "10.0.0.1:40002", "10.0.0.2:80") },
        Socket::new(State::Established, "10.0.0.1:40004", "10.0.0.2:80"),
        Socket::new(State::CloseWait, "10.0.0.1:40006", "10.0.0.2:80"),
    ];
    let look = folded(&wish(&[Reapable::TimeWait]), &sockets);
    let ages: Vec<u32> = look.waiting.iter().map(|socket| socket.age_ms).collect();
    assert_eq!(ages, [5_000]);
    assert_eq!(look.groups.len(), 1);
    assert_eq!(look.groups[0].ports.len(), 4);
    let look = folded(&wish(&[Reapable::FinWait2, Reapable::CloseWait]), &sockets);
    let ages: Vec<u32> = look.waiting.iter().map(|socket| socket.age_ms).collect();
    // The orphan by its timer; without tcp_info nothing is known of the other.
    assert_eq!(ages, [10_000, 0]);
}

#[test]
fn an_orphan_is_as_old_as_the_kernel_lets_it_get_less_what_is_left() {
    for (seconds, left, age_ms) in
        [("30", 20_000, 10_000), ("60", 60_000, 0), ("90", 30_000, 30_000), ("120", 10_000, 110_000)]
    {
        let mut settings = Settings::default();
        settings.0.insert("net.ipv4.tcp_fin_timeout".to_owned(), seconds.to_owned());
        let socket =
            Socket { timer: (3, left), ..Socket::new(State::FinWait2, "10.0.0.1:40002", "10.0.0.2:80") };
        let payload = socket.payload();
        let row = Row::read(&payload).unwrap();
        assert_eq!(Lengths::of(&settings).age_ms(Reapable::FinWait2, &row), age_ms, "{seconds}");
    }
}

#[test]
fn connections_that_came_in_are_left_unless_they_are_wanted() {
    let sockets = [
        Socket::new(State::Listen, "0.0.0.0:40000", "0.0.0.0:0"),
        Socket::time_wait("10.0.0.1:40000", "10.0.0.2:50000", 1_000),
        Socket::time_wait("10.0.0.1:80", "10.0.0.2:50001", 1_000),
        Socket::time_wait("10.0.0.1:50002", "10.0.0.2:80", 1_000),
    ];
    let look = folded(&wish(&[Reapable::TimeWait]), &sockets);
    assert_eq!(look.waiting.len(), 1);
    assert_eq!(look.groups[0].group.to_string(), "10.0.0.1 -> 10.0.0.2:80");
    assert_eq!(look.bound.iter().collect::<Vec<_>>(), [80, 40_000]);
    let look = folded(&Wish { incoming: true, ..wish(&[Reapable::TimeWait]) }, &sockets);
    let names: Vec<String> = look.groups.iter().map(|found| found.group.to_string()).collect();
    assert_eq!(names, ["incoming to 0.0.0.0:40000", "incoming to 10.0.0.1:80", "10.0.0.1 -> 10.0.0.2:80"]);
}

#[test]
fn what_a_closed_listener_left_is_left() {
    // The service was on 40000; a client has connections to one destination and to many.
    let mut sockets: Vec<Socket> = (0..200)
        .map(|peer| Socket::time_wait("10.0.0.1:40000", &format!("10.0.0.2:{}", 50_000 + peer), 1_000))
        .collect();
    let services = sockets.len();
    sockets.extend((0..300).map(|port| {
        Socket::time_wait(
            &format!("10.0.0.1:{}", 41_000 + port),
            &format!("10.1.0.2:{}", 80 + port % 150),
            1_000,
        )
    }));
    let look = folded(&wish(&[Reapable::TimeWait]), &sockets);
    assert_eq!(look.waiting.len(), 300);
    let wanted = Wish { incoming: true, ..wish(&[Reapable::TimeWait]) };
    assert_eq!(folded(&wanted, &sockets).waiting.len(), 300 + services);
}

#[test]
fn what_is_taken_is_not_in_the_look_and_what_may_be_a_closed_listeners_is_not_offered() {
    let mut sockets: Vec<Socket> = (0..200)
        .map(|peer| Socket::time_wait("10.0.0.1:40000", &format!("10.0.0.2:{}", 50_000 + peer), 1_000))
        .collect();
    sockets.extend(
        (0..300).map(|port| Socket::time_wait(&format!("10.0.0.1:{}", 41_000 + port), "10.1.0.2:80", 1_000)),
    );
    let mut offered = 0;
    let wish = wish(&[Reapable::TimeWait]);
    let mut take = |group: &Group, socket: &Waiting<Handle>| {
        assert_eq!(group.to_string(), "10.0.0.1 -> 10.1.0.2:80");
        offered += 1;
        socket.port.is_multiple_of(2)
    };
    let look = folded_with(&wish, PortSet::default(), &sockets, &mut take);
    // Of the first of a group it is not known yet.
    assert_eq!((offered, look.waiting.len()), (299, 151));
    assert_eq!(look.groups.iter().map(|found| found.ports.len()).max(), Some(300));
    let mut all = 0;
    let wanted = Wish { incoming: true, ..wish };
    let mut take = |_: &Group, _: &Waiting<Handle>| {
        all += 1;
        true
    };
    assert!(folded_with(&wanted, PortSet::default(), &sockets, &mut take).waiting.is_empty());
    assert_eq!(all, 500);
}

#[test]
fn a_dump_takes_no_more_than_it_needs() {
    let only = Wish { every_port: false, ..wish(&[Reapable::TimeWait]) };
    assert_eq!(only.dumps(), (vec![State::TimeWait], vec![]));
    let (plain, full) = wish(&[Reapable::TimeWait, Reapable::CloseWait]).dumps();
    assert_eq!(full, [State::CloseWait]);
    assert!(plain.contains(&State::TimeWait) && plain.contains(&State::FinWait2));
    assert!(!plain.contains(&State::CloseWait) && !plain.contains(&State::Listen));
}
