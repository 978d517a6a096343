/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One small program of every kind that tidewait uses, each with the helpers it will need there. The loader loads one at a
 * time, so that one refused program says nothing about the others. They look at nothing but the
 * network namespace and the cgroup of the probe, and change nothing but the probe's own connection.
 */
#include "core.h"

#define AF_INET 2
#define AF_INET6 10
#define TC_ACT_OK 0

/* Where the programs find what to do and leave what they saw; the loader names the same slots. */
enum slot {
	WANTED_NETNS, /* inode of the network namespace that counts */
	WANTED_PORT,  /* local port to choose, in host order */
	HITS,	      /* how often the program ran for the probe's own sockets */
	COOKIE,	      /* of the last such socket */
	CGROUP,	      /* id of the cgroup it ran in */
	CLOCK,	      /* bpf_ktime_get_ns() */
	TAKEN,	      /* whether bpf_skc_lookup_tcp() found the listener */
	SLOTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

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

static __always_inline __u64 get(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&slots, &slot);

	return value ? *value : 0;
}

static __always_inline void put(__u32 slot, __u64 value)
{
	bpf_map_update_elem(&slots, &slot, &value, BPF_ANY);
}

static __always_inline void hit(void)
{
	__u32 slot = HITS;
	__u64 *value = bpf_map_lookup_elem(&slots, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
}

static __always_inline int ours(const struct sock *sk)
{
	return sk->__sk_common.skc_net.net->ns.inum == get(WANTED_NETNS);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(state_changes, const struct sock *sk, int from, int to)
{
	if (!ours(sk))
		return 0;
	hit();
	put(COOKIE, bpf_get_socket_cookie((void *)sk));
	put(CGROUP, bpf_get_current_cgroup_id());
	put(CLOCK, bpf_ktime_get_ns());
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(into_ring, const struct sock *sk, int from, int to)
{
	__u64 *event;

	if (!ours(sk))
		return 0;
	event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
	if (!event)
		return 0;
	*event = (__u64)from << 32 | (__u32)to;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(into_hash, const struct sock *sk, int from, int to)
{
	__u64 key = (__u64)(long)sk, value = to;

	if (ours(sk))
		bpf_map_update_elem(&recent, &key, &value, BPF_ANY);
	return 0;
}

SEC("iter/tcp")
int every_socket(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	unsigned char state;

	if (!sk)
		return 0;
	state = sk->skc_state;
	bpf_seq_write(ctx->meta->seq, &state, sizeof(state));
	return 0;
}

SEC("fentry/tcp_time_wait")
int BPF_PROG(into_time_wait, struct sock *sk)
{
	if (ours(sk))
		hit();
	return 0;
}

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

char LICENSE[] SEC("license") = "Dual BSD/GPL";
