//! The kernel-side filter: bytecode that leaves out sockets before they are copied.
//!
//! Conditions on either end and on the ports, all of which have to hold (inet_diag.c `inet_diag_bc_run`). An IPv4
//! condition also matches sockets that hold the address v4-mapped, so one filter serves both families.

use std::net::IpAddr;

use tidewait_model::{AddressFilter, Endpoint};

/// `INET_DIAG_REQ_BYTECODE`: the attribute that carries the program.
pub(super) const ATTR_BYTECODE: u16 = 1;
/// `INET_DIAG_BC_S_COND`: compare address and port of this end.
const S_COND: u8 = 7;
/// `INET_DIAG_BC_D_COND`: compare address and port of the peer.
const D_COND: u8 = 8;
/// `INET_DIAG_BC_JMP`, an operation without a condition: goes to where `no` leads, always.
const JUMP: [u8; 4] = [1, 0, 0, 0];

/// Which sockets a request is about: those for which everything holds that is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The peer.
    pub to: Option<AddressFilter>,
    /// This end.
    pub from: Option<AddressFilter>,
    /// The port of either end.
    pub port: Option<u16>,
}

impl Filter {
    /// Whether a socket passes.
    pub fn passes(&self, local: Endpoint, remote: Endpoint) -> bool {
        let fits =
            |wanted: Option<AddressFilter>, end: Endpoint| wanted.is_none_or(|wanted| wanted.passes(end));
        fits(self.to, remote)
            && fits(self.from, local)
            && self.port.is_none_or(|port| port == local.port || port == remote.port)
    }

    /// The program that accepts those that pass; `None` where all do.
    ///
    /// `struct inet_diag_bc_op {code, yes, no}`, then the condition. A jump exactly to the end accepts; one beyond it
    /// rejects. Where `no` leads has to be reached by a chain of `yes` from the beginning, too (inet_diag.c `valid_cc`).
    pub(super) fn program(&self) -> Option<Vec<u8>> {
        // Each with where `no` leads to from itself, where that is no rejection.
        let mut steps: Vec<(Vec<u8>, Option<u16>)> = Vec::new();
        for (code, wanted) in [(D_COND, self.to), (S_COND, self.from)] {
            steps.extend(wanted.map(|wanted| (end(code, Some(wanted.ip), wanted.port), None)));
        }
        if let Some(port) = self.port {
            let own = end(S_COND, None, Some(port));
            let over = (JUMP.len() + own.len()) as u16;
            let peer = end(D_COND, None, Some(port));
            let past = (peer.len() + JUMP.len()) as u16;
            steps.extend([(peer, Some(past)), (JUMP.to_vec(), Some(over)), (own, None)]);
        }
        let whole: usize = steps.iter().map(|(step, _)| step.len()).sum();
        let mut program = Vec::with_capacity(whole);
        for (mut step, no) in steps {
            // Beyond the end of what is left, by the length of an operation. A program has 84 bytes at most.
            let beyond = (whole - program.len()) as u16 + 4;
            step[1] = step.len() as u8;
            step[2..4].copy_from_slice(&no.unwrap_or(beyond).to_ne_bytes());
            program.extend(step);
        }
        (!program.is_empty()).then_some(program)
    }
}

/// The operation that compares one end, its jumps still to be set: `struct inet_diag_bc_op`, `struct inet_diag_hostcond {family, prefix_len, port}` and
/// the address.
fn end(code: u8, ip: Option<IpAddr>, port: Option<u16>) -> Vec<u8> {
    let (family, prefix, address): (u8, u8, Vec<u8>) = match ip {
        None => (0, 0, Vec::new()),
        Some(IpAddr::V4(ip)) => (2, 32, ip.octets().to_vec()),
        Some(IpAddr::V6(ip)) => (10, 128, ip.octets().to_vec()),
    };
    let mut step = vec![code, 0, 0, 0, family, prefix, 0, 0];
    step.extend(port.map_or(-1, i32::from).to_ne_bytes());
    step.extend(address);
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jumps(program: &[u8], at: usize) -> (usize, usize) {
        let no = usize::from(u16::from_ne_bytes([program[at + 2], program[at + 3]]));
        (at + usize::from(program[at + 1]), at + no)
    }

    /// Where a program ends, whichever conditions hold.
    fn ends(program: &[u8], at: usize, found: &mut Vec<usize>) {
        if at >= program.len() {
            found.push(at);
            return;
        }
        let (yes, no) = jumps(program, at);
        if program[at] != JUMP[0] {
            ends(program, yes, found);
        }
        ends(program, no, found);
    }

    /// As the kernel checks it (`inet_diag_bc_audit`): every jump within the program leads to where a chain of `yes` comes by.
    fn is_valid(program: &[u8]) -> bool {
        let mut chain = vec![0];
        while let Some(&at) = chain.last().filter(|at| **at < program.len()) {
            chain.push(jumps(program, at).0);
        }
        let steps = chain.iter().filter(|at| **at < program.len());
        chain.last() == Some(&program.len())
            && steps.map(|at| jumps(program, *at).1).all(|no| no > program.len() || chain.contains(&no))
    }

    #[test]
    fn every_way_through_ends_at_the_end_or_just_beyond_it() {
        let address = |text: &str| Some(text.parse::<AddressFilter>().unwrap());
        for filter in [
            Filter { to: address("10.0.2.9:3306"), ..Filter::default() },
            Filter { to: address("2001:db8::9"), ..Filter::default() },
            Filter { from: address("10.0.2.9"), ..Filter::default() },
            Filter { port: Some(80), ..Filter::default() },
            Filter { to: address("[2001:db8::9]:80"), from: address("2001:db8::1"), port: Some(80) },
        ] {
            let program = filter.program().unwrap();
            let mut found = Vec::new();
            ends(&program, 0, &mut found);
            let accepts = found.iter().filter(|end| **end == program.len()).count();
            assert_eq!(accepts, if filter.port.is_some() { 2 } else { 1 }, "{filter:?}");
            assert!(
                found.iter().all(|end| *end == program.len() || *end == program.len() + 4),
                "{filter:?}: {found:?}"
            );
            assert!(is_valid(&program), "{filter:?}: {program:?}");
        }
        assert_eq!(Filter::default().program(), None);
    }

    #[test]
    fn what_passes_passes_every_condition() {
        let end = |text: &str| {
            let address: std::net::SocketAddr = text.parse().unwrap();
            Endpoint { address: address.ip().into(), port: address.port() }
        };
        let filter = Filter {
            to: Some("10.0.2.9".parse().unwrap()),
            from: Some("10.0.2.1".parse().unwrap()),
            port: Some(80),
        };
        assert!(filter.passes(end("10.0.2.1:4000"), end("10.0.2.9:80")));
        assert!(filter.passes(end("10.0.2.1:80"), end("10.0.2.9:4000")));
        assert!(!filter.passes(end("10.0.2.1:4000"), end("10.0.2.9:81")));
        assert!(!filter.passes(end("10.0.2.2:4000"), end("10.0.2.9:80")));
        assert!(!filter.passes(end("10.0.2.1:4000"), end("10.0.2.8:80")));
        assert!(Filter::default().passes(end("10.0.2.1:4000"), end("10.0.2.8:80")));
        let turned = Filter { from: filter.to, ..Filter::default() };
        assert!(!turned.passes(end("10.0.2.1:4000"), end("10.0.2.9:80")));
    }
}
