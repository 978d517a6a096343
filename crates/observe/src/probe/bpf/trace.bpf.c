/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One small program of every kind that looks into the kernel's own structures, with the helpers it will need.
 *
 * The loader loads one at a time, so that one refused program says nothing about the others. They look at nothing
 * but the network namespace and the cgroup of the probe, and change nothing but the probe's own connection.
 */
#include "slots.h"
#include "core.h"

#include <linux/errno.h>

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

/* A number that stays with the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, __u64);
} notes SEC(".maps");

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(notes_on_sockets, struct sock *sk, int from, int to)
{
	__u64 *note;

	if (!ours(sk))
		return 0;
	note = bpf_sk_storage_get(&notes, sk, NULL, 0);
	if (note)
		hit();
	else
		bpf_sk_storage_get(&notes, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(failing_calls, void *registers, long result)
{
	struct task_struct *task;

	if (result != -EADDRINUSE)
		return 0;
	task = (void *)bpf_get_current_task();
	if (BPF_CORE_READ(task, nsproxy, net_ns, ns.inum) == get(WANTED_NETNS))
		hit();
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
