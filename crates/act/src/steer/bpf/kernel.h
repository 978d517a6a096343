/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel types that steering looks into. CO-RE finds the members by name when the programs are loaded, so only the names
 * matter. Sources: include/net/sock.h, inet_sock.h, inet_timewait_sock.h, linux/tcp.h (6.1 to 6.18).
 */
#ifndef TIDEWAIT_STEER_KERNEL_H
#define TIDEWAIT_STEER_KERNEL_H

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define SOL_SOCKET 1
#if defined(__TARGET_ARCH_x86) || defined(__TARGET_ARCH_arm64)
#define SO_REUSEADDR 2
#else
#error "asm/socket.h of this kind of processor has not been looked at"
#endif
#define TCP_TIME_WAIT 6

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
};

struct inet_sock {
	struct sock sk;
	u32 local_port_range; /* since 6.3: two numbers of 16 bits, later one of 32 */
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
};

struct inet_timewait_sock {
	unsigned char tw_substate;
};

struct tcp_timewait_sock {
	struct inet_timewait_sock tw_sk;
	int tw_ts_recent_stamp;
};

#pragma clang attribute pop

#endif
