/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the tracer's programs and their reader pass each other. This is the one definition; layout.rs mirrors it, and a
 * test compares every size and offset with the compiled object's type information.
 *
 * Addresses are 16 bytes: IPv6, or IPv4 in the first four; ports are in host order; times are bpf_ktime_get_ns()
 * (CLOCK_MONOTONIC), in nanoseconds.
 */
#ifndef TIDEWAIT_TRACE_LAYOUT_H
#define TIDEWAIT_TRACE_LAYOUT_H

#include <linux/types.h>

#define COMMAND 16 /* TASK_COMM_LEN */
#define LEVELS 8   /* control groups from the innermost outwards that are kept by name */
#define NAME 160   /* bytes of such a name: "kubepods-besteffort-pod" with its uid, ".slice:cri-containerd:", 64 digits fit */

/* Who: one process under one name, in one control group. Its place in the list of owners is its number; 0 is nobody. */
struct owner {
	__u64 cgroup; /* id of its control group: inode number of the directory */
	__u64 since;  /* when it was first seen */
	__u32 tgid;   /* process number in the first PID namespace; 0: all processes of this command and control group */
	__u32 uid;
	char command[COMMAND]; /* of the leading thread */
	__u32 merged;	       /* number of the owner that stands for all processes alike, 0 if there is none yet */
	__u32 unused;
};

/* What tells owners apart. */
struct owner_key {
	__u64 cgroup;
	__u32 tgid;
	__u32 uid;
	char command[COMMAND];
};

/* The names of a control group and its parents, innermost first. */
struct cgroup_path {
	__u32 levels; /* how many are filled; LEVELS + 1 where there were more */
	__u32 unused;
	char names[LEVELS][NAME];
};

enum direction {
	UNDIRECTED, /* not known */
	OUTGOING,   /* connect() was called here */
	INCOMING,   /* it came in to a listening socket */
	LISTENING,  /* not a connection: what listens */
	BINDING,    /* not a connection: bind() failed */
};

/* Who chose the local port of an outgoing connection. */
enum pool {
	UNCHOSEN,	/* not known */
	BY_CONNECT,	/* connect(): it was 0 when the state became SYN_SENT */
	BY_BIND,	/* bind(address, port 0) */
	BY_THE_PROGRAM, /* bind() with a port */
};

/* Connections are counted by these. An incoming one by its local endpoint, an outgoing one by its remote one. */
struct flow_key {
	__u32 owner;
	__u32 netns; /* inode of the network namespace */
	__u32 scope; /* interface of a link-local address, else 0 */
	__u16 port;  /* outgoing: the remote one; incoming: the local one; of a failed bind(): the one asked for */
	__u8 family; /* AF_INET or AF_INET6; IPv4-mapped is AF_INET */
	__u8 direction;
	__u8 local[16] __attribute__((aligned(8)));
	__u8 remote[16]; /* of outgoing connections only */
};

/* The counts of one flow. */
struct tally {
	__u64 connects;	     /* connect() went as far as SYN_SENT */
	__u64 bound;	     /* of those, the port was bind()'s choice */
	__u64 fixed;	     /* of those, the program had asked for this very port */
	__u64 accepts;	     /* incoming connections established */
	__u64 closed_here;   /* FIN sent before one came */
	__u64 closed_there;  /* FIN sent after the peer's */
	__u64 aborted_here;  /* RST sent by this side's wish */
	__u64 aborted_there; /* ended by the peer's RST, a time-out, SOCK_DESTROY */
	__u64 time_wait;     /* went on into TIME_WAIT, or FIN_WAIT2 as a mini-socket */
	__u64 lived;	     /* nanoseconds, the sum over `aged` connections */
	__u64 aged;	     /* connections whose begin and end were both seen */
	__u64 sent;	     /* bytes */
	__u64 received;	     /* bytes */
	__u64 no_port;	     /* connect(): EADDRNOTAVAIL; of BINDING flows bind(): EADDRINUSE */
	__u64 refused;	     /* connect(): ECONNREFUSED */
	__u64 unanswered;    /* connect(): ETIMEDOUT */
	__u64 failed;	     /* connect(): another error, a port asked for that is taken, or given up by the program */
};

struct flow {
	struct flow_key key;
	struct tally tally;
};

/* What is kept of each connection until it ends. */
struct connection {
	__u64 begun; /* SYN_SENT, or ESTABLISHED for incoming ones */
	__u64 received; /* bytes that were counted when this side closed; more may come */
	__u32 owner;  /* who connected; of incoming ones who listens, and once closed, who closed */
	__u32 closer; /* who closed, 0 until then */
	__u32 row;    /* number of the flow of this owner, 0: to be looked for */
	__u16 port;   /* connect(): the local one before, of an earlier connection of this socket */
	__u8 direction;
	__u8 pool : 4;
	__u8 closed : 4; /* who closed first: enum closer */
};

#define SLOTS 65536 /* a power of two */

/* Where it is kept: a slot's place is the cookie, modulo their number. */
struct slot {
	__u64 cookie; /* whose it is; 0: it is free */
	struct connection connection;
};

enum closer {
	NOBODY,
	HERE,
	THERE,
};

/* Who a socket in TIME_WAIT belonged to. */
struct waiting {
	__u64 cookie; /* 0: nothing is noted here */
	__u32 owner;  /* who connected, or for incoming ones who closed */
	__u32 closer; /* who closed */
	__u32 since;  /* ticks of 2^30 ns */
	__u8 direction;
	__u8 pool;
	__u8 unused[2];
};

/* A listening port, to tell incoming from outgoing where the begin was not seen. */
struct listening_key {
	__u32 netns;
	__u32 port;
};

enum kind {
	CONNECT,     /* connect() was called */
	ESTABLISHED, /* and answered */
	ACCEPT,	     /* an incoming connection is established */
	PEER_CLOSED, /* the peer's FIN came first */
	CLOSE,	     /* this side closes, or the connection is cut off */
	TIME_WAIT,   /* born */
	REFUSED,     /* connect() or bind() found no local port */
	FAILED,	     /* connect() failed otherwise */
};

struct event {
	__u64 at;
	__u64 cookie;
	__u64 lived; /* nanoseconds; 0 where the begin was not seen */
	__u64 sent;
	__u64 received;
	__u32 owner;
	__u32 thread;
	__u32 netns;
	__u32 scope;
	__u32 error; /* an errno, 0 for none */
	__u16 local_port;
	__u16 remote_port;
	__u8 kind;
	__u8 family;
	__u8 direction;
	__u8 pool;
	__u8 closed; /* enum closer */
	__u8 reset;  /* cut off by RST instead of FIN: 1 here, 2 there */
	__u8 unused[2];
	__u8 local[16];
	__u8 remote[16];
};

/* What could not be counted, kept or told; nothing is lost without being here. */
struct losses {
	__u64 owners;	/* an owner beyond the bound: told with others of its command, or as nobody */
	__u64 flows;	/* events counted under their command or without their destination */
	__u64 counts;	/* events not counted at all */
	__u64 sockets;	/* sockets that nothing could be kept with */
	__u64 events;	/* events that found the ring full */
	__u64 waiting;	/* notes of sockets in TIME_WAIT that younger ones took the place of, within a minute */
	__u64 groups;	/* owners whose control group could not be noted */
	__u64 listening; /* listening ports that could not be noted */
};

/* How much is in use, and what was lost. */
struct ledger {
	__u32 owners; /* the next free number of an owner; 0 is nobody */
	__u32 flows;  /* the next free number of a flow; 0 is none */
	__u64 recovered; /* changes that the second program took because the first could not run */
	struct losses losses;
};

/* What is to be told; written before the programs are loaded. */
struct settings {
	__u32 events; /* a mask of kinds, 0: count only */
	__u32 tgid;   /* only this process's, 0: all */
	__u32 netns;  /* only this namespace's, 0: all; others are not counted either */
	__u32 wakeup; /* wake the reader when so many bytes wait */
	__u16 local_port;
	__u16 remote_port;
	__u8 remote_family; /* 0: any remote address */
	__u8 pids_tree;	    /* there is a hierarchy of cgroup v1 for the controller pids */
	__u8 unused[2];
	__u8 remote[16];
	__u32 owner_limit; /* owners one by one, then by command */
	__u32 flow_limit;
	__u32 waiting; /* how many sockets in TIME_WAIT are noted: a power of two, 0 for none */
};

#endif
