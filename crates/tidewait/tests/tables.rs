//! Every headline table as its command makes it, at a tiny scale: its form, and what is so on every kernel whatever the speed.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::process::Command;

use tidewait_lab::{isolated, scaled, skip, tables};
use tidewait_model::table::{Basis, Cell, SCHEMA, Size, Table, TableRun};

/// What the command prints; `None` if this machine may not make namespaces, which is said.
fn run(name: &str, table: &str) -> TableRun {
    let output = Command::new(env!("CARGO_BIN_EXE_tidewait"))
        .args(["lab", "run", table, "--tiny", "--json"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}: {said}", output.status);
    let run: TableRun = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((run.schema.as_str(), run.size), (SCHEMA, Size::Tiny));
    assert!(!run.tables.is_empty() && run.seconds > 0.0);
    for table in &run.tables {
        assert!(
            !table.rows.is_empty() && !table.notes.is_empty() || table.table.contains(':'),
            "{}",
            table.table
        );
        assert!(table.columns.iter().any(|column| column.basis == Basis::Measured), "{}", table.table);
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{}", table.table);
        for reason in table.missing() {
            skip(name, format!("in part: {reason}"));
        }
    }
    run
}

/// The cell of the first row whose given cells begin so.
fn cell<'a>(table: &'a Table, begins: &[&str], column: &str) -> &'a Cell {
    let text = |cell: &Cell| match cell {
        Cell::Text(words) => words.clone(),
        other => other.number().map_or_else(String::new, |number| number.to_string()),
    };
    let row =
        table.rows.iter().find(|row| begins.iter().zip(*row).all(|(wanted, cell)| text(cell) == *wanted));
    &row.unwrap()[table.column(column).unwrap()]
}

/// The number there, if it was measured.
fn number(table: &Table, begins: &[&str], column: &str) -> Option<f64> {
    cell(table, begins, column).number()
}

#[test]
fn the_bind_pool_is_one_for_all_destinations() {
    isolated("the_bind_pool_is_one_for_all_destinations", || {
        let run = run("the_bind_pool_is_one_for_all_destinations", "bind-table");
        let table = &run.tables[0];
        for client in ["bind() and connect()", "bind, tcp_tw_reuse=1"] {
            for servers in ["1", "4"] {
                assert_eq!(number(table, &[servers, client], "until refused"), Some(100.0), "{client}");
                assert_eq!(*cell(table, &[servers, client], "refused with"), Cell::text("EADDRINUSE"));
            }
            assert_eq!(number(table, &["4", client], "once more"), Some(0.0), "whatever the age: {client}");
        }
        // All of them: the refusal at one destination takes nothing from the next.
        for client in ["connect() alone", "bind, exec --no-port"] {
            let Some(made) = number(table, &["4", client], "until refused") else { continue };
            assert_eq!(made, 400.0, "{client}");
            assert_eq!(number(table, &["4", client], "once more"), Some(0.0), "{client}");
        }
        assert!(number(table, &["4", "connect() alone"], "until refused").is_some());
    });
}

#[test]
fn the_fill_table_has_every_way_at_every_level() {
    isolated("the_fill_table_has_every_way_at_every_level", || {
        let run = run("the_fill_table_has_every_way_at_every_level", "fill-table");
        assert_eq!(run.tables.len(), 3, "rate, median, and the slowest");
        for table in &run.tables {
            for (level, by) in [("10", "TIME_WAIT"), ("95", "TIME_WAIT"), ("10", "live"), ("95", "live")] {
                assert!(number(table, &[level, by], "stock").unwrap() > 0.0, "{}: {level} {by}", table.table);
            }
        }
        for by in ["TIME_WAIT", "live"] {
            let at = |level| number(&run.tables[1], &[level, by], "stock").unwrap();
            assert!(at("95") > 0.0 && at("10") > 0.0);
        }
    });
}

#[test]
fn spread_has_the_ports_of_every_address() {
    isolated("spread_has_the_ports_of_every_address", || {
        let run = run("spread_has_the_ports_of_every_address", "spread-table");
        let table = &run.tables[0];
        assert_eq!(number(table, &["1, without spread"], "until refused"), Some(100.0));
        if let Some(two) = number(table, &["2"], "until refused") {
            assert!(two > 190.0, "{two}");
            assert_eq!(number(table, &["2"], "addresses seen"), Some(2.0));
        }
    });
}

#[test]
fn neighbours_alone_are_not_refused() {
    isolated("neighbours_alone_are_not_refused", || {
        let run = run("neighbours_alone_are_not_refused", "neighbour-table");
        let table = &run.tables[0];
        for column in ["first: refused", "second: refused"] {
            assert_eq!(number(table, &["no"], column), Some(0.0), "{column}");
        }
        if let Some(refused) = number(table, &["ports of its own"], "second: refused") {
            assert_eq!(refused, 0.0, "a range of its own takes nothing from the neighbour");
        }
    });
}

#[test]
fn the_seed_table_says_what_arithmetic_says() {
    isolated("the_seed_table_says_what_arithmetic_says", || {
        let run = run("the_seed_table_says_what_arithmetic_says", "seed-table");
        let table = &run.tables[0];
        assert_eq!(number(table, &["1", "reap", "no"], "ports / seconds"), Some(200.0));
        if let Some(made) = number(table, &["1", "reap", "no"], "made, of 95 %") {
            assert!(made > 0.0);
        }
    });
}

#[test]
fn a_client_that_runs_out_of_ports_does_not_beside_reap() {
    isolated("a_client_that_runs_out_of_ports_does_not_beside_reap", || {
        let run = run("a_client_that_runs_out_of_ports_does_not_beside_reap", "reap-table");
        let table = &run.tables[0];
        let refused = |beside| number(table, &[beside], "refused");
        let Some(without) = refused("nothing") else { panic!("a client alone needs no remedy") };
        // 318 are asked for, of 200 ports.
        if without > 0.0 {
            assert_eq!(number(table, &["nothing"], "most in TIME_WAIT"), Some(200.0));
        }
        // At a tenth of the speed the client has ended before reap has looked twice.
        if without == 0.0 || scaled(100) < 100 {
            return skip(
                "a_client_that_runs_out_of_ports_does_not_beside_reap",
                "in part: too slow for a run of 3 s",
            );
        }
        for beside in ["reap --older-than 1s", "reap --keep-below 45%"] {
            // A gap where this build cannot reap.
            let Some(with) = refused(beside) else { continue };
            assert!(with < without, "{beside}: {with} refused, {without} without");
        }
    });
}

#[test]
fn early_ends_are_seen_by_the_peer_and_old_bytes_only_without_timestamps() {
    const NAME: &str = "early_ends_are_seen_by_the_peer_and_old_bytes_only_without_timestamps";
    isolated(NAME, || {
        if let Err(error) = tidewait_lab::Lab::new().wired_pair() {
            return skip(NAME, error);
        }
        let run = run(NAME, "safety-table");
        let (duplicate, last) = (&run.tables[0], &run.tables[1]);
        for (fate, stamps) in [("kept", "on"), ("kept", "off"), ("ended at once", "on")] {
            // Where the machine is too slow for the worst case there is no number.
            let read = number(duplicate, &[fate, stamps, "fast"], "old bytes read").unwrap_or(0.0);
            assert_eq!(read, 0.0, "{fate}, timestamps {stamps}");
        }
        if let Some(read) = number(duplicate, &["ended at once", "off", "fast"], "old bytes read") {
            assert!(read > 0.0, "made on purpose: the segment is the next one");
        }
        if let Some(read) = number(duplicate, &["ended at once", "off", "slow"], "old bytes read") {
            assert_eq!(read, 0.0, "its numbers are behind");
        }
        for stamps in ["on", "off"] {
            assert_eq!(*cell(last, &["kept", stamps, "one"], "peer's program"), Cell::text("end of data"));
            assert!(number(last, &["kept", stamps, "one"], "FINs seen").unwrap() >= 2.0, "it is sent again");
            if let Some(resets) = number(last, &["ended at once", stamps, "one"], "resets sent") {
                assert!(resets >= 1.0);
                let sees = cell(last, &["ended at once", stamps, "one"], "peer's program");
                assert_eq!(*sees, Cell::text("ECONNRESET"));
            }
        }
    });
}

#[test]
fn the_list_names_every_table_with_its_time() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tidewait")).args(["lab", "list", "--json"]).output().unwrap();
    let list: tidewait_model::scenario::LabList = serde_json::from_slice(&output.stdout).unwrap();
    let listed: Vec<&str> = list.tables.iter().map(|table| table.table.as_str()).collect();
    let known: Vec<&str> = tables::all().iter().map(|headline| headline.name).collect();
    assert_eq!(listed, known);
    assert!(list.tables.iter().all(|table| 0 < table.quick_seconds && table.quick_seconds <= table.seconds));
    let total =
        |of: fn(&tidewait_model::scenario::ListedTable) -> u32| list.tables.iter().map(of).sum::<u32>();
    assert!(total(|table| table.seconds) <= 16 * 60 && total(|table| table.quick_seconds) <= 4 * 60);
}
