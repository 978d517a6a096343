//! Which local ports unmodified programs get.

use crate::common::{Client, Scene};
use tidewait_model::PortSet;

fn range(low: u16, high: u16) -> PortSet {
    (low..=high).collect()
}

fn all_in(ports: &[u64], low: u64, high: u64) -> bool {
    ports.iter().all(|port| (low..=high).contains(port))
}

/// A server in the namespace, not steered.
fn server(scene: &Scene, hosts: &[&str], port: u16) -> Client {
    let mut server = scene.client(false);
    for host in hosts {
        server.ask(&format!("serve {host} {port}"));
    }
    server
}

#[test]
fn connect_gets_ports_of_the_range_and_shares_them_between_destinations() {
    const NAME: &str = "ports::connect_gets_ports_of_the_range_and_shares_them_between_destinations";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["0.0.0.0"], 80);
    let _server6 = server(&scene, &["fd99::1"], 80);
    let mut client = scene.client(true);
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_039))) else { return };
    for host in ["10.99.0.1", "10.99.0.2", "127.0.0.1", "fd99::1", "::ffff:127.0.0.9"] {
        let ports = client.numbers(&format!("keep {host} {host} 80 36"));
        assert_eq!(ports.len(), 36, "{host}");
        assert!(all_in(&ports, 20_000, 20_039), "{host}: {ports:?}");
        let distinct: std::collections::BTreeSet<u64> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), 36, "{host}");
        assert_eq!(client.ask(&format!("echoes {host}")), "all", "{host}");
    }
    let counts = steering.counts().unwrap();
    assert_eq!((counts.steered, counts.fell_back), (5 * 36, 0), "{counts:?}");
    assert_eq!(counts.learning, 5, "{counts:?}");
}
