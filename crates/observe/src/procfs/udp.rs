//! UDP ports in use: the automatic choice of UDP is from the same range as that of TCP.

use std::fs;
use std::path::Path;

use tidewait_model::PortSet;

/// The local ports of the UDP sockets of the *calling thread's* network namespace (/proc/thread-self/net/udp and udp6, second
/// column). What cannot be read is left out.
pub fn udp_ports(root: &Path) -> PortSet {
    let tables = ["udp", "udp6", "udplite", "udplite6"];
    let text =
        |table: &str| fs::read_to_string(root.join("proc/thread-self/net").join(table)).unwrap_or_default();
    tables.iter().flat_map(|table| ports(&text(table))).collect()
}

fn ports(table: &str) -> Vec<u16> {
    let port = |line: &str| {
        let (_, port) = line.split_ascii_whitespace().nth(1)?.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_a_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             1234: 0100007F:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 22 2 0 0\n\
             1235: 00000000000000000000000001000000:4E20 00000000000000000000000000000000:0000 07 0 0 0\n";
        assert_eq!(ports(table), [5_353, 20_000]);
        assert!(ports("").is_empty());
    }
}
