//! Reading of dumps: field by field, broken in every way, and recorded.

use proptest::prelude::*;

use super::encode::{Socket, message, recording};
use super::*;

fn rows(datagram: &[u8]) -> Vec<Row<'_>> {
    messages(datagram)
        .filter_map(|message| match message {
            Ok(Message::Socket { payload, .. }) => Row::read(payload),
            _ => None,
        })
        .collect()
}

#[test]
fn a_time_wait_row_keeps_its_milliseconds_and_has_no_owner() {
    let socket = Socket {
        cookie: 0x0012_3456_789a_bcde,
        attributes: vec![(15, 0x4d_u32.to_ne_bytes().to_vec())],
        ..Socket::time_wait("10.0.0.5:40000", "10.0.2.9:3306", 59_948)
    };
    let bytes = message(20, &socket.payload());
    let row = rows(&bytes)[0];
    assert_eq!(row.state(), Some(State::TimeWait));
    assert_eq!(row.timer(), Timer::TimeWait(59_948));
    assert_eq!(row.local().to_string(), "10.0.0.5:40000");
    assert_eq!(row.remote().to_string(), "10.0.2.9:3306");
    assert_eq!(row.cookie(), 0x0012_3456_789a_bcde);
    assert_eq!((row.uid(), row.inode(), row.mark()), (None, None, Some(0x4d)));
}

#[test]
fn a_mapped_row_is_shown_as_the_ipv4_tuple_it_occupies() {
    let socket = Socket::new(State::Established, "[::ffff:10.0.0.5]:40000", "[::ffff:10.0.2.9]:80");
    let bytes = message(20, &socket.payload());
    assert_eq!(rows(&bytes)[0].remote().to_string(), "10.0.2.9:80");
}

#[test]
fn half_open_and_bound_sockets_are_told_from_the_states_the_kernel_files_them_under() {
    for (state, attributes) in [
        (State::NewSynRecv, vec![]),
        (State::SynRecv, vec![(8, vec![0])]),
        (State::BoundInactive, vec![(8, vec![0])]),
    ] {
        let socket = Socket { attributes, ..Socket::new(state, "10.0.0.5:80", "10.0.0.9:50000") };
        let bytes = message(20, &socket.payload());
        assert_eq!(rows(&bytes)[0].state(), Some(state));
    }
}

#[test]
fn attributes_that_nobody_knows_are_kept_and_do_no_harm() {
    let socket = Socket {
        attributes: vec![
            (8, vec![0]),
            (21, 77_u64.to_ne_bytes().to_vec()),
            (4_000, b"later".to_vec()),
            (22, vec![0, 1]),
            (2, vec![1, 0, 0, 0, 0, 7, 0, 0]),
        ],
        ..Socket::new(State::Established, "10.0.0.5:40000", "10.0.2.9:80")
    };
    let bytes = message(20, &socket.payload());
    let row = rows(&bytes)[0];
    assert_eq!(row.cgroup_id(), Some(77));
    assert!(row.options().unwrap().bind_address_no_port());
    assert!(row.tcp_info().unwrap().timestamps);
    assert!(row.attributes().any(|(kind, value)| kind == 4_000 && value == b"later"));
}

#[test]
fn a_state_from_the_future_is_no_state_and_no_panic() {
    let mut payload = Socket::new(State::Established, "10.0.0.5:1", "10.0.2.9:80").payload();
    payload[1] = 99;
    assert_eq!(Row::read(&payload).unwrap().state(), None);
}

#[test]
fn a_recording_gives_its_dumps_in_order_and_then_says_that_it_ends() {
    let dump = |port: u16| recording(&[Socket::time_wait(&format!("10.0.0.5:{port}"), "10.0.2.9:80", 5)]);
    let mut source = Recording::new([dump(1), dump(2)].concat());
    for port in [1, 2] {
        let mut seen = Vec::new();
        let outcome = source.dump(&Request::all(Family::V4), &mut |row| seen.push(row.local().port)).unwrap();
        assert_eq!((seen, outcome.rows), (vec![port], 1));
    }
    let error = source.dump(&Request::all(Family::V4), &mut |_| ()).unwrap_err();
    assert!(matches!(error, DumpError::Incomplete), "{error}");
}

#[test]
fn a_refused_dump_says_why() {
    for (errno, unsupported) in [(2_i32, true), (95, true), (1, false)] {
        let refusal = message(2, &(-errno).to_ne_bytes());
        let bytes = [&(refusal.len() as u32).to_le_bytes()[..], &refusal].concat();
        let error = Recording::new(bytes).dump(&Request::all(Family::V4), &mut |_| ()).unwrap_err();
        assert_eq!(matches!(error, DumpError::Unsupported(_)), unsupported, "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        survives(&bytes);
        let _ = Recording::new(bytes).dump(&Request::all(Family::V6), &mut |row| { row.state(); });
    }

    #[test]
    fn a_dump_cut_anywhere_gives_no_row_that_was_not_there(cut in 0_usize..400, tail in any::<[u8; 8]>()) {
        let sockets: Vec<Socket> = (1..4)
            .map(|port| Socket::time_wait(&format!("10.0.0.5:{port}"), "10.0.2.9:80", 1))
            .collect();
        let whole: Vec<u8> = sockets.iter().flat_map(|socket| message(20, &socket.payload())).collect();
        let mut cut_off = whole[..cut.min(whole.len())].to_vec();
        cut_off.extend(tail);
        let seen = rows(&cut_off);
        prop_assert!(seen.len() <= 3);
        for (row, port) in seen.iter().zip(1..) {
            prop_assert_eq!(row.local().port, port);
        }
    }
}
