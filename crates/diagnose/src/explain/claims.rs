//! What is often said of TIME_WAIT and local ports, and what is so: each claim once, shown wherever it comes up.

use super::article::Claim;

pub(super) const FIN_TIMEOUT: Claim = Claim {
    claim: "A lower tcp_fin_timeout shortens TIME_WAIT.",
    truth: "It does not: it governs orphaned FIN_WAIT2 alone. With tcp_fin_timeout=5 a socket that came into TIME_WAIT had \
            59.9 s to go (measured on 6.18).",
};

pub(super) const KEEPALIVE: Claim = Claim {
    claim: "Lower tcp_keepalive_* values reduce TIME_WAIT.",
    truth: "They do not touch it: a socket in TIME_WAIT has no keepalive timer. With tcp_keepalive_time=1 its timer ran on \
            unchanged (6.18). They end open connections whose peer is gone, and only those with SO_KEEPALIVE.",
};

pub(super) const RECYCLE: Claim = Claim {
    claim: "tcp_tw_recycle recycles TIME_WAIT faster; with it, just one device behind a NAT can connect.",
    truth: "The second half was true until 4.11. The setting is gone since 4.12: writing it fails, and a line in sysctl.conf \
            does nothing.",
};

pub(super) const REUSE_DEFAULT: Claim = Claim {
    claim: "tcp_tw_reuse is off (0) by default.",
    truth: "Since 4.19 the default is 2: on for loopback. For other destinations it is still off until it is set to 1.",
};

pub(super) const REUSE_NO_EFFECT: Claim = Claim {
    claim: "tcp_tw_reuse has no effect at 500 connections a second.",
    truth: "It has where connect() chooses the port and both ends send timestamps: 28,232 ports full of TIME_WAIT refused \
            with 0 and connected in 7 us with 1. It never applies where bind(address, 0) chose it, which is what Squid up \
            to 5 does with an outgoing address.",
};

pub(super) const FIVE_HUNDRED: Claim = Claim {
    claim: "A machine can make no more than about 500 connections a second.",
    truth: "That is 28,232 ports / 60 s = 470, for each source address and destination, where connect() chooses. It is one \
            number for all destinations of a source address only where bind() chooses.",
};

pub(super) const THIRTY_THOUSAND: Claim = Claim {
    claim: "More than 30,000 sockets in TIME_WAIT are an emergency.",
    truth: "The number alone says nothing. Incoming ones take no local port, and outgoing ones are counted for each \
            destination: 60,000 over four destinations are half of what fits. About 0.5 kB each.",
};

pub(super) const CLOSE_WAIT_SETTINGS: Claim = Claim {
    claim: "CLOSE_WAIT is reduced by tcp_fin_timeout, tcp_keepalive_*, tcp_tw_reuse.",
    truth: "None ends it: CLOSE_WAIT has no timer (idiag_timer 0, measured on 6.18), the program has to close(). Keepalive \
            with SO_KEEPALIVE may end the connection, and then the descriptor leaks on unseen.",
};

pub(super) const ADDRESS_SPACE: Claim = Claim {
    claim: "Too many sockets in TIME_WAIT exhaust the address space of the machine.",
    truth: "Ports run out for one source address and one destination at a time. With a range of 4 ports, 4 connections went \
            to one destination and 4 more to another, from the same ports (6.18).",
};

pub(super) const REUSEADDR: Claim = Claim {
    claim: "SO_REUSEADDR lets a client have more ports.",
    truth: "Not with bind(address, 0) and connect(): it changed nothing there (6.18). It lets a server bind its fixed port \
            while old connections are in TIME_WAIT.",
};

pub(super) const TABLE_OVERFLOW: Claim = Claim {
    claim: "The kernel logs `time wait bucket table overflow` when tcp_max_tw_buckets is reached.",
    truth: "TCP logs nothing, in no kernel from 4.1 to 7.1: watch TcpExt.TCPTimeWaitOverflow. The connection is closed all \
            the same, only without TIME_WAIT.",
};

pub(super) const NOBODYS: Claim = Claim {
    claim: "You cannot know whose a socket in TIME_WAIT is.",
    truth: "Not afterwards: the kernel shows uid 0 and inode 0 for it. But it keeps the cookie of the connection that it was: \
            who noted that cookie while a process held the connection knows it (6.18). `tidewait report --trace 10` does.",
};
