/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the steering programs and their loader pass each other. This is the one definition; layout.rs mirrors it, and what has
 * another size there is refused.
 *
 * Addresses are 16 bytes: IPv6, or IPv4 in the first four; in network order.
 */
#ifndef TIDEWAIT_STEER_LAYOUT_H
#define TIDEWAIT_STEER_LAYOUT_H

#include <linux/types.h>

#define SOURCES 64 /* addresses to spread over, of each family: a power of two */
#define LOCALS 16  /* local addresses that are tried where the source is not known yet, of each family */
#define PORTS 65536 /* ports that there are */
#define KNOWN 4	   /* sources that are remembered for one destination: a power of two */
#define CLAIMS 16384 /* a power of two */
#define MARKS 1048576 /* a power of two; of four bytes each */

struct address {
	__u32 words[4];
};

/* What is wanted; written before the programs are loaded. */
struct settings {
	__u32 netns;	   /* inode of the network namespace; sockets of others are left alone */
	__u32 tgid;	   /* only this process, 0: all */
	__u32 ports;	   /* whether ports are given; 0: they are left to the kernel */
	__u32 sources;	   /* whether sources are given; 0: they are left to the kernel */
	__u32 tries;	   /* candidates that are looked at for one connect() at most */
	__u32 reuse_after; /* seconds from which on a TIME_WAIT may be taken, 0: never */
	__u32 careful;	   /* programs that run later may change where a connection goes: only to where one has gone are ports given */
};

/* What may be given at present. Where it changes the loader puts another one in its place, all at once. */
struct offer {
	__u32 ports;	/* how many there are of `port` */
	__u32 sources4; /* how many there are of `source4` */
	__u32 sources6;
	__u32 locals4;
	__u32 locals6;
	__u32 loopback; /* the sources are loopback addresses: bit 0 of IPv4, bit 1 of IPv6 */
	struct address source4[SOURCES];
	struct address source6[SOURCES];
	struct address local4[LOCALS];
	struct address local6[LOCALS];
	__u16 port[PORTS]; /* in an order that the loader has drawn by lot */
};

/*
 * What became of connect(), on one processor. Each is counted once as far as its port goes, where ports are given:
 * connects = steered + fell_back + unknown + bound + apart; and once as far as its source goes, where sources are given:
 * connects = spread + sourced + routed + bound + apart.
 */
struct counts {
	__u64 connects;	 /* all of them */
	__u64 steered;	 /* got a port here */
	__u64 learning;	 /* of those: the source was not known yet, so that every local address was looked at */
	__u64 reused;	 /* of those: the port of a TIME_WAIT that was old enough */
	__u64 spread;	 /* got a source here */
	__u64 fell_back; /* no candidate was free: the kernel chose the port */
	__u64 unknown;	 /* the source was not known, or not whether this is where connections go: the kernel chose the port */
	__u64 bound;	 /* left alone: the program had bound a port */
	__u64 sourced;	 /* not spread: the program had bound a source */
	__u64 routed;	 /* not spread: to where a source must not be changed, or there is none to give */
	__u64 apart;	 /* left alone: bound to a device, with a port range of its own, to a link-local address, or from IPv6 to IPv4 */
	__u64 tries;	 /* candidates that were looked at */
	__u64 taken;	 /* of those: free by all that was seen, but bind() was refused */
	__u64 gone;	 /* a source was refused by bind(): the address is not there any more */
};

/* An address of this machine. */
struct here_key {
	struct address address;
	__u32 v4; /* whether it is one of IPv4 */
};

struct destination_key {
	struct address remote;
	__u16 port; /* network order */
	__u16 family;
};

/* What is kept of a destination. */
struct destination {
	struct destination_key key; /* whose it is: the map gives it to another one where it runs full */
	__u32 cursor; /* the next candidate */
	__u32 turn;   /* the next source */
	__u32 known;  /* how many of `sources` are filled */
	__u32 oldest; /* which one is given up for the next */
	__u32 full;   /* when a search found nothing, in ticks */
	__u32 vain;   /* so many in a row found nothing */
	__u32 seen;   /* a connection has gone there */
	struct address sources[KNOWN]; /* what routing chose here lately */
};

#endif
