//! The worst case of a delayed duplicate: an old segment whose place in the new connection is just the next one.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use tidewait_model::table::{Cell, Column, Table, Unit};

use super::super::Setup;
use super::super::bench::or_gap;
use super::{Fate, PATIENCE, Pair, again, on_or_off};
use crate::error::{Context, Error, Result};
use crate::wire::{Deed, Direction, Segment, Trap};

/// How fast initial sequence numbers grow, in bytes a second: one every 64 ns (net/core/secure_seq.c). An old connection reaches the
/// numbers of a later one only if it was faster, from its beginning to the beginning of the other.
const NUMBERS: f64 = 1e9 / 64.0;

/// What each side sends before it waits for as much from the other.
const BLOCK: usize = 32 * 1024;

/// So much of the new connection may have gone before the old segment fits.
const SOON: std::ops::Range<u32> = 65_536..1_000_000;

/// So much follows it.
const REST: usize = 64 * 1024;

/// The longest that the old connection may take to get ahead.
const LONGEST: Duration = Duration::from_secs(15);

/// How long a segment has to have an effect.
const EFFECT: Duration = Duration::from_millis(300);

/// What the bytes of the two connections are.
const OLD: u8 = b'o';
const NEW: u8 = b'n';

/// Counters that tell what became of a segment.
const COUNTERS: [&str; 6] =
    ["PAWSEstab", "PAWSOldAck", "PAWSTimewait", "TCPChallengeACK", "TCPOFOQueue", "BeyondWindow"];

pub(super) fn table(setup: &Setup, fates: &[Fate], tell: &dyn Fn(&str)) -> Result<Table> {
    let mut rows = Vec::new();
    let mut cases: Vec<(Fate, bool, bool)> =
        [true, false].iter().flat_map(|stamps| fates.iter().map(|fate| (*fate, *stamps, true))).collect();
    // What most connections are.
    cases.push((Fate::Destroyed, false, false));
    for (fate, timestamps, fast) in cases {
        tell(&format!(
            "a delayed duplicate: {}, timestamps {}",
            fate.words(),
            if timestamps { "on" } else { "off" }
        ));
        let mut row = vec![
            Cell::text(fate.words()),
            on_or_off(timestamps),
            Cell::text(if fast { "fast" } else { "slow" }),
        ];
        match or_gap(one(setup, fate, timestamps, fast))? {
            Ok(cells) => row.extend(cells),
            Err(gap) => row.extend(std::iter::repeat_n(gap, 5)),
        }
        rows.push(row);
    }
    Ok(Table {
        table: "safety-table: duplicate".to_owned(),
        title: "A delayed duplicate of an old connection, after the same tuple was opened again".to_owned(),
        columns: vec![
            Column::given("TIME_WAIT", Unit::Text),
            Column::given("time stamps", Unit::Text),
            Column::given("old one", Unit::Text),
            Column::measured("same tuple again", Unit::Text),
            Column::measured("the duplicate is", Unit::Text),
            Column::measured("old bytes read", Unit::Count),
            Column::measured("of bytes", Unit::Count),
            Column::measured("counted", Unit::Text),
        ],
        rows,
        notes: vec![
            format!(
                "The worst case, made on purpose: both sides of the old connection send faster than initial sequence numbers grow ({:.1} MB/s) \
                 from its beginning to that of the new one, so that its numbers are ahead; of its recorded segments the one is delivered \
                 again whose place is the very next in the new connection, with an acknowledgement that fits too. Its bytes are told \
                 from those of the new connection by their value, and every byte that the client's program reads is looked at.",
                NUMBERS / 1e6
            ),
            "By the lab's own wire, in user space: it takes hold of the one segment that matters, where netem only goes by chance.".to_owned(),
            "Slow: the old connection carries one block, as most do. Its numbers are behind those of the new one.".to_owned(),
            "tcp_tw_reuse begins the new connection above every number of the client's side of the old one: there no acknowledgement fits, \
             and the segment is chosen by its place alone."
                .to_owned(),
            "Timestamps protect the new connection also where TIME_WAIT is gone: the old segment's is older than those of the new one \
             (PAWS, RFC 7323). tcp_tw_reuse takes over only what has them. Without them nothing but TIME_WAIT protects it."
                .to_owned(),
        ],
    })
}

/// The measured cells of a row.
fn one(setup: &Setup, fate: Fate, timestamps: bool, fast: bool) -> Result<Vec<Cell>> {
    let pair = Pair::new(setup, fate, timestamps)?;
    let listener = pair.listen()?;
    let accept = || -> Result<TcpStream> {
        let (far, _) = listener.accept().context("accept at", Pair::destination())?;
        far.set_nodelay(true)
            .and_then(|()| far.set_read_timeout(Some(PATIENCE)))
            .context("set up", "a connection")?;
        Ok(far)
    };
    let recorded = pair.wire.trap(Direction::Back, u64::MAX, |segment| segment.data > 0, Deed::Record);
    let begin = Instant::now();
    let (mut near, _) = pair.connect()?.context("connect to", Pair::destination())?;
    let mut far = accept()?;
    // How long from the end of the old connection to the beginning of the new one.
    let pause = if matches!(fate, Fate::Reused | Fate::Reaped) { 2.5 } else { 0.6 };
    old_connection(&mut near, &mut far, begin, if fast { Some(pause) } else { None })?;
    let old = recorded.caught();
    drop(recorded);
    // The client closes first, and keeps the TIME_WAIT.
    drop(near);
    io::copy(&mut far, &mut io::sink()).context("read from", "the old connection")?;
    drop(far);
    pair.fulfil(fate)?;

    let syns = [Direction::Forth, Direction::Back]
        .map(|direction| pair.wire.trap(direction, 9, Segment::syn, Deed::Record));
    let connected = pair.connect()?;
    let again = again(&connected);
    let Ok((near, _)) = connected else {
        return into_time_wait(&pair, again, &old);
    };
    let far = accept()?;
    let [Some(client), Some(server)] = syns.map(|syns| syns.caught().last().map(Segment::end)) else {
        return Err(Error::Refused("a connection came about without a SYN".to_owned()));
    };
    let fitting = |segment: &&Segment| {
        let (ahead, acknowledged) =
            (segment.sequence.wrapping_sub(server), segment.acknowledgement.wrapping_sub(client));
        // The acknowledgement must be of what the client will have sent by then, and not much less (RFC 5961, 5.2).
        SOON.contains(&ahead) && (ahead - 48 * 1024..ahead - 1_024).contains(&acknowledged)
    };
    // tcp_tw_reuse begins above every number of the old connection: then no old acknowledgement fits.
    let by_place = |segment: &&Segment| SOON.contains(&segment.sequence.wrapping_sub(server));
    let segment = match (old.iter().find(fitting).or_else(|| old.iter().find(by_place)), old.last()) {
        (Some(segment), _) => segment.clone(),
        (None, Some(last)) if !fast => last.clone(),
        _ => return Err(too_slow(&old, server)),
    };
    let before = if fast { segment.sequence.wrapping_sub(server) as usize } else { BLOCK };
    into_new(&pair, again, (near, far), &segment, before)
}

/// Why no segment fits.
fn too_slow(old: &[Segment], server: u32) -> Error {
    let ahead = old.last().map_or(0, |last| last.end().wrapping_sub(server).cast_signed());
    Error::Unavailable(format!(
        "the machine was too slow for the worst case: the old connection ended {} bytes {} the beginning of the new one",
        ahead.unsigned_abs(),
        if ahead < 0 { "before" } else { "after" }
    ))
}

/// Both sides send in turn. With a pause, until the old connection is ahead of one that begins so many seconds later.
fn old_connection(
    near: &mut TcpStream,
    far: &mut TcpStream,
    begin: Instant,
    pause: Option<f64>,
) -> Result<()> {
    let enough = |sent: usize| match pause {
        Some(pause) => sent as f64 > (begin.elapsed().as_secs_f64() + pause) * NUMBERS,
        None => sent > 0,
    };
    let mut sent = 0;
    while !enough(sent) {
        exchange(near, far, OLD, BLOCK)?;
        sent += BLOCK;
        if begin.elapsed() > LONGEST {
            let rate = sent as f64 / begin.elapsed().as_secs_f64() / 1e6;
            return Err(Error::Unavailable(format!(
                "the machine was too slow for the worst case: {rate:.0} MB/s each way, and {:.1} are outrun by the sequence numbers",
                NUMBERS / 1e6
            )));
        }
    }
    Ok(())
}

/// So many bytes from the server to the client, and then as many back.
fn exchange(near: &mut TcpStream, far: &mut TcpStream, byte: u8, count: usize) -> Result<Vec<u8>> {
    let bytes = vec![byte; count];
    let mut read = vec![0; count];
    let mut both = || {
        far.write_all(&bytes)?;
        near.read_exact(&mut read)?;
        near.write_all(&bytes)?;
        let mut back = vec![0; count];
        far.read_exact(&mut back)?;
        Ok::<_, io::Error>(back)
    };
    if both().context("exchange bytes on", "a connection")? != bytes {
        return Err(Error::Refused("the server read bytes that nobody sent on its connection".to_owned()));
    }
    Ok(read)
}

/// The duplicate meets TIME_WAIT, for the tuple could not be opened again.
fn into_time_wait(pair: &Pair<'_>, again: Cell, old: &[Segment]) -> Result<Vec<Cell>> {
    let last = old.last().ok_or_else(|| Error::Refused("the old connection carried nothing".to_owned()))?;
    let answers = pair.wire.trap(Direction::Forth, 1, |_| true, Deed::Record);
    let before = counters(pair)?;
    pair.wire.inject(Direction::Back, last);
    thread::sleep(EFFECT);
    let left = pair.client.sockstat()?.time_wait;
    let answer = if left == 0 {
        // Its answer went to a host that knows the connection no more (RFC 1337).
        format!("{}; reset ends TIME_WAIT", answered(&answers))
    } else {
        answered(&answers).to_owned()
    };
    Ok(vec![again, Cell::text(answer), Cell::count(0), Cell::count(0), counted(&before, &counters(pair)?)])
}

/// The duplicate meets the new connection, after so many bytes each way.
fn into_new(
    pair: &Pair<'_>,
    again: Cell,
    (mut near, mut far): (TcpStream, TcpStream),
    segment: &Segment,
    before: usize,
) -> Result<Vec<Cell>> {
    let mut read = Vec::new();
    let mut left = before;
    while left > 0 {
        let count = left.min(BLOCK);
        read.extend(exchange(&mut near, &mut far, NEW, count)?);
        left -= count;
    }
    thread::sleep(EFFECT / 3);
    let answers = pair.wire.trap(Direction::Forth, 1, |_| true, Deed::Record);
    let counters_before = counters(pair)?;
    pair.wire.inject(Direction::Back, segment);
    thread::sleep(EFFECT);
    let counted = counted(&counters_before, &counters(pair)?);
    let answer = answered(&answers).to_owned();
    drop(answers);
    // The rest of the new connection, which comes to where the duplicate is or is not.
    let mut rest = vec![0; REST];
    far.write_all(&vec![NEW; REST]).context("send on", "the new connection")?;
    near.read_exact(&mut rest).context("read from", "the new connection")?;
    read.extend(rest);
    let wrong = read.iter().filter(|byte| **byte != NEW).count();
    let taken = if wrong > 0 { "taken" } else { "dropped" };
    Ok(vec![
        again,
        Cell::text(format!("{taken}; {answer}")),
        Cell::count(wrong as u64),
        Cell::count(read.len() as u64),
        counted,
    ])
}

/// What the client answered.
fn answered(answers: &Trap) -> &'static str {
    match answers.caught().first() {
        None => "no answer",
        Some(answer) if answer.rst() => "RST",
        Some(_) => "ACK",
    }
}

fn counters(pair: &Pair<'_>) -> Result<Vec<u64>> {
    // Some kernels do not have them all.
    COUNTERS.iter().map(|name| Ok(pair.client.counter(name)?.unwrap_or(0))).collect()
}

fn counted(before: &[u64], after: &[u64]) -> Cell {
    let grown = COUNTERS.iter().zip(before.iter().zip(after)).filter(|(_, (before, after))| after > before);
    let words: Vec<&str> = grown.map(|(name, _)| *name).collect();
    Cell::text(if words.is_empty() { "-".to_owned() } else { words.join(", ") })
}
