//! The reader against another reader of the same kernel: netlink-packet-sock-diag, /proc/net/tcp and `ss`.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path as FilePath;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagMessage, constants};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use tidewait_lab::{Lab, Path, Policy, Server, Side, isolated, scaled};
use tidewait_observe::sock_diag::{Family, Netlink, ProcNet, Request, Sockets};

/// A socket as every reader can tell it: local and remote end, kernel's number of the state.
type Told = (String, String, u8);

/// What the other crate reads, in the calling thread's namespace, with the milliseconds of TIME_WAIT timers unknown to it.
fn other_reader(family: Family) -> BTreeMap<Told, u64> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .unwrap();
    let id = match family {
        Family::V4 => SocketId::new_v4(),
        Family::V6 => SocketId::new_v6(),
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = SockDiagMessage::InetRequest(InetRequest {
        family: if family == Family::V4 { constants::AF_INET } else { constants::AF_INET6 },
        protocol: constants::IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: id,
    });
    let mut packet = NetlinkMessage::new(header, request.into());
    packet.finalize();
    let mut bytes = vec![0; packet.header.length as usize];
    packet.serialize(&mut bytes);
    rustix::net::sendto(&socket, &bytes, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0)).unwrap();
    let mut told = BTreeMap::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (received, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty()).unwrap();
        let mut at = 0;
        while at < received {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(&buffer[at..received]).unwrap();
            let length = message.header.length as usize;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    let id = &response.header.socket_id;
                    let end = |ip: std::net::IpAddr, port: u16| {
                        SocketAddr::new(ip.to_canonical(), port).to_string()
                    };
                    let key = (
                        end(id.source_address, id.source_port),
                        end(id.destination_address, id.destination_port),
                        response.header.state,
                    );
                    *told.entry(key).or_default() += 1;
                }
                NetlinkPayload::Done(_) => return told,
                NetlinkPayload::Error(error) => panic!("{error:?}"),
                _ => {}
            }
            at += length.next_multiple_of(4);
        }
    }
}

/// What this crate's reader says, with a state as the kernel numbers it on the wire.
fn this_reader(source: &mut dyn Sockets, family: Family) -> BTreeMap<Told, u64> {
    use tidewait_model::State;
    let mut told = BTreeMap::new();
    source
        .dump(&Request::all(family).states_except([State::BoundInactive]), &mut |row| {
            let state = match row.state().expect("a state of today") {
                State::NewSynRecv => State::SynRecv,
                state => state,
            };
            *told.entry((row.local().to_string(), row.remote().to_string(), state.number())).or_default() +=
                1;
        })
        .unwrap();
    told
}

/// Says what differs, and not the thousands of sockets that do not.
fn assert_same(own: &BTreeMap<Told, u64>, other: &BTreeMap<Told, u64>, family: Family) {
    let only_in = |one: &BTreeMap<Told, u64>, two: &BTreeMap<Told, u64>| -> Vec<(Told, u64)> {
        one.iter()
            .filter(|(told, count)| two.get(*told) != Some(count))
            .map(|(told, count)| (told.clone(), *count))
            .collect()
    };
    assert_eq!((only_in(own, other), only_in(other, own)), (vec![], vec![]), "{family:?}");
}

#[test]
fn three_readers_tell_the_same_sockets() {
    isolated("three_readers_tell_the_same_sockets", || {
        let (client, server) = Lab::new().pair().unwrap();
        let to = |address: &str| Path::between(&client, &server).to(address.parse().unwrap());
        to("10.77.0.2:80").fill_time_wait(scaled(3_000)).unwrap();
        to("[fd00:77::2]:80").fill_time_wait(scaled(500)).unwrap();
        let _held = to("10.77.0.2:81").hold_established(50).unwrap();
        let _mapped = to("[::ffff:10.77.0.2]:82").hold_established(20).unwrap();
        let _leaked = to("10.77.0.2:83").leak_close_wait(Side::Client, 10).unwrap();
        let _orphans = to("10.77.0.2:84").orphan_fin_wait2(10).unwrap();
        let addresses = ["10.77.0.1:90".parse().unwrap(), "[fd00:77::1]:90".parse().unwrap()];
        let _listening = Server::start(&client, &addresses, Policy::CloseAfterPeer).unwrap();
        client
            .netns()
            .run(|| {
                // A FIN is acknowledged with a delay: FIN_WAIT1 becomes FIN_WAIT2 meanwhile.
                let passing = |(_, _, state): &Told| *state == tidewait_model::State::FinWait1.number();
                while this_reader(&mut Netlink::open().unwrap(), Family::V4).keys().any(passing) {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                for family in Family::BOTH {
                    let own = this_reader(&mut Netlink::open().unwrap(), family);
                    assert!(own.len() > 20, "{family:?}: {}", own.len());
                    assert_same(&own, &other_reader(family), family);
                    assert_same(&own, &this_reader(&mut ProcNet::new(FilePath::new("/")), family), family);
                }
            })
            .unwrap();
    });
}
