/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Chooses the local port, the source address, or both for connect() of TCP sockets that have none yet.
 *
 * A candidate is taken only where no socket has that tuple. It is bound with SO_REUSEADDR, so that connections to other
 * destinations share the port. Whatever is found wrong leaves the choice to the kernel: these programs never refuse a
 * connect().
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "kernel.h"
#include "layout.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#include "maps.h"
#include "claim.h"
#include "place.h"
#include "source.h"
#include "port.h"

/* IP_LOCAL_PORT_RANGE, in either of its forms; since Linux 6.3. */
static __always_inline int has_range(struct tcp_sock *tcp)
{
	struct inet_sock___pair *pair = (void *)tcp;

	if (bpf_core_field_exists(tcp->inet_conn.icsk_inet.local_port_range))
		return tcp->inet_conn.icsk_inet.local_port_range != 0;
	if (bpf_core_field_exists(pair->local_port_range))
		return pair->local_port_range.lo || pair->local_port_range.hi;
	return 0;
}

/* What is known of the socket before anything is chosen. */
static __always_inline int concerns(struct bpf_sock_addr *ctx, struct attempt *attempt)
{
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tcp;

	if (ctx->protocol != IPPROTO_TCP || !sk)
		return 0;
	if (settings.tgid && bpf_get_current_pid_tgid() >> 32 != settings.tgid)
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp || tcp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->ns.inum != settings.netns)
		return 0;
	count(connects);
	if (sk->src_port) {
		count(bound);
		return 0;
	}
	/* A lookup finds the sockets that are bound to no device. */
	if (sk->bound_dev_if) {
		count(apart);
		return 0;
	}
	if (has_range(tcp)) {
		count(apart);
		return 0;
	}
	attempt->ctx = ctx;
	attempt->shares = BPF_CORE_READ_BITFIELD(&tcp->inet_conn.icsk_inet.sk.__sk_common, skc_reuse) == SK_CAN_REUSE;
	return 1;
}

/*
 * connect() to no address goes to this machine, and the kernel says where to only after these programs: to the source that is bound or 127.0.0.1
 * (ip_route_output_key_hash_rcu()), to ::1 (tcp_v6_connect()).
 */
static __always_inline void name(struct attempt *attempt, const struct address *own)
{
	if (!is_any(&attempt->key.remote))
		return;
	attempt->unnamed = 1;
	if (attempt->key.family == AF_INET6)
		attempt->key.remote.words[3] = bpf_htonl(1);
	else
		attempt->key.remote.words[0] = own->words[0] ? own->words[0] : bpf_htonl(0x7f000001);
}

static __always_inline int choose(struct attempt *attempt, const struct address *own)
{
	name(attempt, own);
	/* The interface that connect() will bind the socket to is not known to a lookup yet, and the source goes with it. */
	if (is_link_local(&attempt->key)) {
		count(apart);
		return 1;
	}
	attempt->at = destination(&attempt->key);
	attempt->offer = offered();
	if (!attempt->at || !attempt->offer) {
		if (settings.ports)
			count(fell_back);
		if (settings.sources)
			count(routed);
		return 1;
	}
	attempt->source = *own;
	attempt->fixed = !is_any(own);
	if (settings.sources) {
		if (attempt->fixed)
			count(sourced);
		else if (spread(attempt))
			count(spread);
		else
			count(routed);
	}
	if (settings.ports)
		port(attempt);
	return 1;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct attempt attempt = {};
	struct address own = {};

	if (!concerns(ctx, &attempt))
		return 1;
	own.words[0] = ctx->sk->src_ip4;
	attempt.key.remote.words[0] = ctx->user_ip4;
	attempt.key.port = ctx->user_port;
	attempt.key.family = AF_INET;
	return choose(&attempt, &own);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct attempt attempt = {};
	struct address own = {};
	struct bpf_sock *sk;
	u32 to[4];

	if (!concerns(ctx, &attempt))
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	attempt.v6 = 1;
	attempt.key.port = ctx->user_port;
	to[0] = once(ctx->user_ip6[0]);
	to[1] = once(ctx->user_ip6[1]);
	to[2] = once(ctx->user_ip6[2]);
	to[3] = once(ctx->user_ip6[3]);
	own.words[0] = once(sk->src_ip6[0]);
	own.words[1] = once(sk->src_ip6[1]);
	own.words[2] = once(sk->src_ip6[2]);
	own.words[3] = once(sk->src_ip6[3]);
	/* IPv4 in all but the socket; one that is bound to an address of IPv4 takes :: for that of IPv4. */
	if (is_mapped(to) || (!(to[0] | to[1] | to[2] | to[3]) && is_mapped(own.words))) {
		/* None of IPv4 is reached from an address of IPv6: connect() fails, and each bind() would. */
		if (!is_any(&own) && !is_mapped(own.words)) {
			count(apart);
			return 1;
		}
		attempt.key.family = AF_INET;
		attempt.key.remote.words[0] = to[3];
		__builtin_memset(&own, 0, sizeof(own));
		own.words[0] = once(sk->src_ip4);
	} else {
		attempt.key.family = AF_INET6;
		__builtin_memcpy(attempt.key.remote.words, to, sizeof(to));
	}
	return choose(&attempt, &own);
}

/* connect() has chosen all: which source routing gave, and the tuple is in the table, so that nobody need hold it. */
SEC("sockops")
int connecting(struct bpf_sock_ops *ctx)
{
	struct destination_key key = {};
	struct address local = {};
	struct bpf_sock *sk = ctx->sk;
	struct destination *at;
	struct tcp_sock *tcp;
	u32 family = ctx->family;

	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB || !settings.ports || !sk)
		return 1;
	key.port = ctx->remote_port >> 16;
	if (family == AF_INET6 && !ctx->remote_ip6[0] && !ctx->remote_ip6[1] && ctx->remote_ip6[2] == bpf_htonl(0xffff))
		family = AF_INET;
	key.family = family;
	if (family == AF_INET) {
		key.remote.words[0] = once(ctx->remote_ip4);
		local.words[0] = once(ctx->local_ip4);
	} else {
		key.remote.words[0] = once(ctx->remote_ip6[0]);
		key.remote.words[1] = once(ctx->remote_ip6[1]);
		key.remote.words[2] = once(ctx->remote_ip6[2]);
		key.remote.words[3] = once(ctx->remote_ip6[3]);
		local.words[0] = once(ctx->local_ip6[0]);
		local.words[1] = once(ctx->local_ip6[1]);
		local.words[2] = once(ctx->local_ip6[2]);
		local.words[3] = once(ctx->local_ip6[3]);
	}
	at = bpf_map_lookup_elem(&destinations, &key);
	if (!at)
		return 1;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp || tcp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->ns.inum != settings.netns)
		return 1;
	release(hash_of(&key), ctx->local_port);
	if (belongs(at, &key)) {
		at->seen = 1;
		/* bind() sets the lock, that of spread() too, and routing does not. */
		if (!(BPF_CORE_READ_BITFIELD(&tcp->inet_conn.icsk_inet.sk, sk_userlocks) & SOCK_BINDADDR_LOCK))
			learn(at, &local);
	}
	return 1;
}
