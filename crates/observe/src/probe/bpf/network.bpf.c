/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One small program of every kind that works by its context alone, with the helpers and maps it will need. Apart from the
 * others, because an object with CO-RE relocations makes the loader read all of the kernel's types each time.
 *
 * The loader loads one at a time, so that one refused program says nothing about the others. They look at nothing
 * but the network namespace and the cgroup of the probe, and change nothing but the probe's own connection.
 */
#include "slots.h"
#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define TC_ACT_OK 0

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} recent SEC(".maps");

SEC("cgroup/connect4")
int choose_port4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_tuple tuple = {};
	struct sockaddr_in {
		__u16 family;
		__be16 port;
		__be32 address;
		__u8 pad[8];
	} local = { .family = AF_INET };
	struct bpf_sock *found;

	tuple.ipv4.saddr = ctx->user_ip4;
	tuple.ipv4.daddr = ctx->user_ip4;
	tuple.ipv4.dport = ctx->user_port;
	found = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (found) {
		put(TAKEN, 1);
		bpf_sk_release(found);
	}
	hit();
	put(COOKIE, bpf_get_socket_cookie(ctx));
	put(CGROUP, bpf_get_current_cgroup_id());
	local.port = bpf_htons(get(WANTED_PORT));
	local.address = ctx->user_ip4;
	return bpf_bind(ctx, (struct sockaddr *)&local, sizeof(local)) == 0;
}

SEC("cgroup/connect6")
int choose_port6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_tuple tuple = {};
	struct sockaddr_in6 {
		__u16 family;
		__be16 port;
		__be32 flow;
		__be32 address[4];
		__u32 scope;
	} local = { .family = AF_INET6 };
	struct bpf_sock *found;
	int i;

#pragma unroll
	for (i = 0; i < 4; i++) {
		local.address[i] = ctx->user_ip6[i];
		tuple.ipv6.saddr[i] = local.address[i];
		tuple.ipv6.daddr[i] = local.address[i];
	}
	tuple.ipv6.dport = ctx->user_port;
	found = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (found) {
		put(TAKEN, 1);
		bpf_sk_release(found);
	}
	hit();
	put(COOKIE, bpf_get_socket_cookie(ctx));
	put(CGROUP, bpf_get_current_cgroup_id());
	local.port = bpf_htons(get(WANTED_PORT));
	return bpf_bind(ctx, (struct sockaddr *)&local, sizeof(local)) == 0;
}

SEC("sockops")
int socket_events(struct bpf_sock_ops *ctx)
{
	hit();
	put(COOKIE, bpf_get_socket_cookie(ctx));
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	return 1;
}

SEC("tc")
int segments(struct __sk_buff *skb)
{
	hit();
	put(CLOCK, bpf_ktime_get_ns());
	return TC_ACT_OK;
}

SEC("tc")
int into_ring(struct __sk_buff *skb)
{
	__u64 *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event)
		return TC_ACT_OK;
	*event = bpf_ktime_get_ns();
	bpf_ringbuf_submit(event, 0);
	return TC_ACT_OK;
}

SEC("tc")
int into_hash(struct __sk_buff *skb)
{
	__u64 key = skb->len, value = bpf_ktime_get_ns();

	bpf_map_update_elem(&recent, &key, &value, BPF_ANY);
	return TC_ACT_OK;
}
