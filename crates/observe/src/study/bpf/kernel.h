/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel types that are looked into. CO-RE finds the members by name when the programs are loaded, so only the names
 * matter. Sources: include/net/sock.h, inet_timewait_sock.h, linux/tcp.h, linux/skbuff.h (6.1 to 6.18).
 */
#ifndef TIDEWAIT_STUDY_KERNEL_H
#define TIDEWAIT_STUDY_KERNEL_H

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;

#define AF_INET 2
#define AF_INET6 10
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define IPPROTO_HOPOPTS 0
#define IPPROTO_TCP 6
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH 51
#define IPPROTO_DSTOPTS 60
#define TCP_FIN_WAIT2 5
#define TCX_NEXT -1 /* since 6.6: the next program, then the stack */
#define TCP_PAWS_WRAP (60 * 60 * 24 * 24)
#define TCP_PAWS_MSL 60

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct netns_ipv4 {
	u8 sysctl_tcp_rfc1337;
};

struct net {
	struct ns_common ns;
	struct netns_ipv4 ipv4;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
};

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	int skc_bound_dev_if;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	u32 skc_tw_rcv_nxt;
};

struct timer_list {
	unsigned long expires;
};

struct inet_timewait_sock {
	struct sock_common __tw_common;
	unsigned char tw_substate;
	struct timer_list tw_timer;
};

/* Since 6.14: when TIME_WAIT began, in milliseconds. */
struct inet_timewait_sock___stamped {
	u32 tw_entry_stamp;
};

struct tcp_timewait_sock {
	struct inet_timewait_sock tw_sk;
	u32 tw_ts_recent;
	int tw_ts_recent_stamp;
};

struct sk_buff {
	unsigned int len;
};

#pragma clang attribute pop

#endif
