//! A wider port range and the services that it would take in.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use serde_json::Value;
use tidewait_lab::NetNs;

use crate::bench::{Bench, said};

const RANGE: &str = "net.ipv4.ip_local_port_range";
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
const WIDER: &str = "net.ipv4.ip_local_port_range=10240 60999";

fn listener(netns: &NetNs, port: u16) -> TcpListener {
    netns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap()).unwrap()
}

#[test]
fn a_listener_in_the_new_range_is_refused_with_an_offer_and_keeps_its_port_once_it_is_taken() {
    let bench = Bench::new();
    let service = listener(&bench.netns, 20_000);
    let refused = bench.tune(&["apply", "--setting", WIDER]);
    let words = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    let offer = "--setting 'net.ipv4.ip_local_reserved_ports=8080,9000-9009,20000'";
    assert!(words.contains("listens on 20000") && words.contains(offer), "{words}");
    assert!(bench.is_before() && bench.journal().is_empty());

    // The offer, as it is worded.
    let offer = offer.trim_start_matches("--setting '").trim_end_matches('\'');
    let taken = bench.tune(&["apply", "--setting", WIDER, "--setting", offer]);
    assert!(taken.status.success(), "{}", said(&taken));
    assert_eq!(bench.netns.get(RANGE).unwrap(), "10240\t60999");
    assert_eq!(bench.netns.get(RESERVED).unwrap(), "8080,9000-9009,20000");

    // The service is down for a moment, while another program takes all ports it can get.
    bench.netns.set("net.ipv4.ip_unprivileged_port_start", "1024").unwrap();
    bench.netns.set(RANGE, "19990 20009").unwrap();
    drop(service);
    let other = listener(&bench.netns, 8_080);
    let to = other.local_addr().unwrap();
    let taken: Vec<TcpStream> =
        bench.netns.run(|| (0..20).map_while(|_| TcpStream::connect(to).ok()).collect()).unwrap();
    assert_eq!(taken.len(), 19);
    drop(listener(&bench.netns, 20_000));
}

#[test]
fn reserve_reserves_in_the_same_change_and_an_undo_takes_both_back() {
    let bench = Bench::new();
    let _service = listener(&bench.netns, 20_000);
    let applied = bench.tune(&["apply", "--setting", WIDER, "--reserve", "--json"]);
    assert!(applied.status.success(), "{}", said(&applied));
    let applied: Value = serde_json::from_slice(&applied.stdout).unwrap();
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/schema/tidewait.change-1.json")).unwrap();
    assert!(jsonschema::is_valid(&schema, &applied), "{applied:#}");
    let entry = &applied["change"];
    // The ports are reserved before the range begins to give them away.
    assert_eq!(entry["changes"][0]["setting"], RESERVED);
    assert_eq!(entry["changes"][1]["setting"], RANGE);
    assert!(bench.tune(&["rollback"]).status.success());
    assert!(bench.is_before());
}

#[test]
fn udp_and_bound_ports_are_in_the_way_like_listeners_and_what_is_reserved_is_not() {
    let bench = Bench::new();
    let udp = bench.netns.run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 11_211)).unwrap()).unwrap();
    let words = said(&bench.tune(&["apply", "--setting", WIDER]));
    assert!(words.contains("UDP has 11211"), "{words}");
    drop(udp);
    let _service = listener(&bench.netns, 20_000);
    bench.netns.set(RESERVED, "20000").unwrap();
    let applied = bench.tune(&["apply", "--setting", WIDER]);
    assert!(applied.status.success(), "{}", said(&applied));
}

#[test]
fn a_range_that_would_leave_no_port_is_in_the_way() {
    let bench = Bench::new();
    let server = listener(&bench.netns, 7_000);
    let to: SocketAddr = server.local_addr().unwrap();
    let held: Vec<TcpStream> =
        bench.netns.run(|| (0..50).map(|_| TcpStream::connect(to).unwrap()).collect()).unwrap();
    let narrow = "net.ipv4.ip_local_port_range=32768 32799";
    let words = said(&bench.tune(&["apply", "--setting", narrow]));
    assert!(words.contains("connect() would fail at once") && words.contains("--force"), "{words}");
    assert!(bench.is_before());
    assert!(bench.tune(&["apply", "--setting", narrow, "--force"]).status.success());
    assert_eq!(bench.netns.get(RANGE).unwrap(), "32768\t32799");
    drop(held);
}

#[test]
fn what_the_kernel_would_refuse_or_change_is_refused_before_anything_is_written() {
    let bench = Bench::new();
    for (setting, words) in [
        ("net.ipv4.ip_local_port_range=800 60999", "below net.ipv4.ip_unprivileged_port_start"),
        ("net.ipv4.ip_local_port_range=60999 32768", "no port lies in it"),
        ("net.ipv4.ip_local_port_range=32768", "the kernel would change the first 1"),
        ("net.ipv4.ip_unprivileged_port_start=40000", "begins at 32768"),
        ("net.ipv4.tcp_tw_reuse=010", "octal"),
        ("net.ipv4.tcp_fin_timeout=90", "net.ipv4.tcp_fin_timeout"),
        ("net.ipv4.tcp_tw_recycle=1", "gone since Linux 4.12"),
        ("net.ipv4.tcp_max_orphans=9000", "for the whole machine"),
        ("net.ipv4.tcp_tw_resue=1", "near is net.ipv4.tcp_tw_reuse"),
    ] {
        let refused = bench.tune(&["apply", "--setting", "net.ipv4.tcp_syn_retries=3", "--setting", setting]);
        assert_eq!(refused.status.code(), Some(2), "{setting}");
        assert!(said(&refused).contains(words), "{setting}: {}", said(&refused));
    }
    assert_eq!(bench.netns.get("net.ipv4.tcp_syn_retries").unwrap(), "6");
    assert_eq!(bench.journal(), "");
}
