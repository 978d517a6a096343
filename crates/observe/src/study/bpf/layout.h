/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the programs and their reader share; src/study/layout.rs has the same under the same names, compared by a test. */
#ifndef TIDEWAIT_STUDY_LAYOUT_H
#define TIDEWAIT_STUDY_LAYOUT_H

#define BANDS 16
#define KINDS 9

/* Which connections are watched; 0 is any. Addresses of IPv4 take the first four bytes. */
struct settings {
	u32 netns;
	u32 sample; /* one of so many */
	u8 remote[16];
	u8 local[16];
	u16 remote_port;
	u16 local_port;
	u16 port; /* at either end */
	u8 remote_family;
	u8 local_family;
	u32 band_begins[BANDS]; /* milliseconds */
	u64 seed; /* by chance, for what is remembered of open connections */
};

/* What changes while it is watched. */
struct live {
	u32 ticks_per_second;
	u32 time_wait_ms;
	u64 jiffies; /* read by clock() */
	u64 nanoseconds;
	u64 services[1024]; /* a bit for each port that something listens on */
	u64 chosen[1024]; /* a bit for each port that is chosen for connect(), automatically or by `tidewait steer` */
};

/* A destination or a service, what came, and how late. */
struct late_key {
	u8 end[16];
	u32 scope;
	u16 port;
	u8 family;
	u8 direction; /* 0 outgoing, 1 incoming */
	u8 kind;
	u8 band;
	u8 unused[6];
};

struct late {
	u64 segments;
	u64 rejected; /* by their timestamps */
	u64 latest_ms;
	u64 at; /* CLOCK_MONOTONIC, of the latest */
};

/* A number for each processor. */
struct ledger {
	u64 looked_at;
	u64 fragments;
	u64 unread;
	u64 fin_wait2;
	u64 overflow;
};

/* A socket whose timer began anew, since when, and since when it has been in TIME_WAIT. */
struct entry_key {
	u8 local[16];
	u8 remote[16];
	u16 local_port;
	u16 remote_port;
	u32 family;
};

struct entry {
	u64 birth_ms; /* CLOCK_MONOTONIC */
	u64 renewed_ms;
	u64 expires; /* in ticks */
};

#endif
