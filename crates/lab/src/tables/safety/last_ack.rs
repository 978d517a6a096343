//! A lost last ACK: the peer waits in LAST_ACK, and whoever is to answer its FIN may be gone.

use std::io::{self, Read as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tidewait_model::State;
use tidewait_model::table::{Cell, Column, Table, Unit};

use super::super::Setup;
use super::super::bench::or_gap;
use super::{Fate, Pair, again, on_or_off};
use crate::error::{Context, Result};
use crate::wire::{Deed, Direction, Segment};

/// How long the peer is watched: its FIN comes again after 0.2 s, 0.4 s, 0.8 s.
const WATCHED: Duration = Duration::from_secs(3);

/// As many last ACKs are lost where the tuple is opened again, or TIME_WAIT is ended: until then they would end LAST_ACK.
const ALL: u64 = 20;

pub(super) fn table(setup: &Setup, fates: &[Fate], tell: &dyn Fn(&str)) -> Result<Table> {
    let mut rows = Vec::new();
    for timestamps in [true, false] {
        for &fate in fates {
            for reopen in [false, true] {
                tell(&format!(
                    "a lost last ACK: {}, timestamps {}{}",
                    fate.words(),
                    if timestamps { "on" } else { "off" },
                    if reopen { ", opened again" } else { "" }
                ));
                let mut row = vec![
                    Cell::text(fate.words()),
                    on_or_off(timestamps),
                    Cell::text(if reopen { "all" } else { "one" }),
                ];
                match or_gap(one(setup, fate, timestamps, reopen))? {
                    Ok(cells) => row.extend(cells),
                    Err(gap) => row.extend(std::iter::repeat_n(gap, 5)),
                }
                rows.push(row);
            }
        }
    }
    Ok(Table {
        table: "safety-table: last ACK".to_owned(),
        title: "The last ACK is lost, and TIME_WAIT is to answer the peer's FIN".to_owned(),
        columns: vec![
            Column::given("TIME_WAIT", Unit::Text),
            Column::given("time stamps", Unit::Text),
            Column::given("ACKs lost", Unit::Text),
            Column::measured("FINs seen", Unit::Count),
            Column::measured("resets sent", Unit::Count),
            Column::measured("peer's socket", Unit::Text),
            Column::measured("peer's program", Unit::Text),
            Column::measured("same tuple again", Unit::Text),
        ],
        rows,
        notes: vec![
            "The client has closed first; the peer shuts down and keeps its socket, so that an error can be seen. All its data had been \
             read: TIME_WAIT says so. A peer's program that has closed sees nothing in any of the cases."
                .to_owned(),
            "By the lab's own wire, as above.".to_owned(),
            "Reaped: a TIME_WAIT that has answered a FIN is as young again as that. One whose peer is still in LAST_ACK stays."
                .to_owned(),
            "All ACKs lost: the same tuple is opened again while the peer is still in LAST_ACK. It answers the SYN with a challenge ACK, the \
             client that with a reset, and then the SYN comes again: within milliseconds from newer kernels, after a second from older ones."
                .to_owned(),
        ],
    })
}

/// The measured cells of a row.
fn one(setup: &Setup, fate: Fate, timestamps: bool, reopen: bool) -> Result<Vec<Cell>> {
    let pair = Pair::new(setup, fate, timestamps)?;
    let listener = pair.listen()?;
    let (near, _) = pair.connect()?.context("connect to", Pair::destination())?;
    let (mut far, _) = listener.accept().context("accept at", Pair::destination())?;
    // Before a TIME_WAIT is ended it may answer the second FIN already, on a slow machine.
    let times = if reopen || fate == Fate::Destroyed { ALL } else { 1 };
    let lost = pair.wire.trap(Direction::Forth, times, Segment::last_ack, Deed::Drop);
    let fins = pair.wire.trap(Direction::Back, u64::MAX, Segment::fin, Deed::Record);
    let resets = pair.wire.trap(Direction::Forth, u64::MAX, Segment::rst, Deed::Record);
    drop(near);
    pair.until(|| Ok(pair.server.states()?[State::CloseWait] == 1))?;
    far.shutdown(Shutdown::Write).context("shut down", "the peer's socket")?;
    pair.until(|| Ok(!lost.caught().is_empty()))?;
    pair.fulfil(fate)?;
    let opened = if reopen { Some(pair.connect()?) } else { None };
    drop(lost);

    let begin = Instant::now();
    let waits = || Ok::<_, crate::Error>(pair.server.states()?[State::LastAck] > 0);
    while waits()? && begin.elapsed() < WATCHED {
        thread::sleep(Duration::from_millis(20));
    }
    let socket = if waits()? { "LAST_ACK" } else { "gone" };
    let opened = match opened {
        Some(outcome) => again(&outcome),
        None => Cell::text("-"),
    };
    Ok(vec![
        Cell::count(fins.caught().len() as u64),
        Cell::count(resets.caught().len() as u64),
        Cell::text(socket),
        Cell::text(what_the_program_sees(&mut far)),
        opened,
    ])
}

/// What is left to see for the program that still holds the peer's socket.
fn what_the_program_sees(far: &mut TcpStream) -> String {
    let pending = match far.take_error() {
        Ok(error) => error,
        Err(error) => Some(error),
    };
    // Non-blocking: what there is to read is there.
    let read = far.set_nonblocking(true).and_then(|()| far.read(&mut [0; 16]));
    match (pending, read) {
        (Some(error), _) | (None, Err(error)) => name_of(&error),
        (None, Ok(0)) => "end of data".to_owned(),
        (None, Ok(_)) => "data".to_owned(),
    }
}

fn name_of(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ECONNRESET) => "ECONNRESET".to_owned(),
        Some(libc::EPIPE) => "EPIPE".to_owned(),
        Some(libc::ETIMEDOUT) => "ETIMEDOUT".to_owned(),
        _ => error.to_string(),
    }
}
