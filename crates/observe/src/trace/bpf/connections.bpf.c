/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who opens TCP connections, who closes them first, and what became of them.
 *
 * One program follows every change of state. What it must remember of a connection it forgets when the connection ends;
 * what it counts is counted here, by owner and destination, in maps of fixed size. Which task is
 * running means something only where a system call changes the state: connect(), listen(), close() and shutdown();
 * everything else happens in whatever task a packet interrupts.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "kernel.h"
#include "layout.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#include "maps.h"
#include "who.h"
#include "where.h"
#include "tell.h"
#include "keep.h"
#include "opening.h"
#include "closing.h"

static __always_inline int gone(struct sock *sk, int from, int called)
{
	switch (from) {
	case TCP_SYN_SENT:
	case TCP_SYN_RECV: /* both sides had called connect() */
		return fail(sk);
	case TCP_FIN_WAIT1:
	case TCP_FIN_WAIT2:
	case TCP_CLOSING:
		return ends(sk, from);
	case TCP_ESTABLISHED:
	case TCP_CLOSE_WAIT:
		return cut(sk, called);
	}
	return 0;
}

static __always_inline int change(struct sock *sk, int from, int to, int called)
{
	/* They tell nothing. Nor does close() after shutdown(), before the peer has acknowledged: FIN_WAIT1 to FIN_WAIT1. */
	if (to == TCP_FIN_WAIT2 || to == TCP_SYN_RECV || from == to)
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (settings.netns && netns_of(sk) != settings.netns)
		return 0;
	switch (to) {
	case TCP_SYN_SENT:
		return called ? begin(sk) : 0;
	case TCP_ESTABLISHED:
		return from == TCP_SYN_SENT ? established(sk) : accepted(sk);
	case TCP_LISTEN:
		return called ? listens(sk) : 0;
	case TCP_FIN_WAIT1:
		/* With TCP Fast Open a connection is accepted, and may be closed, before its handshake ends. */
		if (from == TCP_SYN_RECV)
			accepted(sk);
		return closes(sk, HERE, called);
	case TCP_LAST_ACK:
		return closes(sk, THERE, called);
	case TCP_CLOSE_WAIT:
		return peer_closed(sk);
	case TCP_CLOSE:
		gone(sk, from, called);
		forget(sk);
	}
	return 0;
}

/*
 * The change that the first program has taken last on this processor, of those outside of system calls. They do not
 * interrupt each other, so that there is one at a time.
 */
struct taken {
	u64 sk;
	u32 from;
	u32 to;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct taken);
} taken SEC(".maps");

/*
 * A program does not run while it runs already on the same processor: the kernel leaves the inner run out, and with it all
 * that comes in the same burst of packets (kernel/trace/bpf_trace.c __bpf_trace_run()). Packets and timers interrupt system
 * calls, right here too. So there are two programs, one after the other, and a change outside of a system call is left to
 * whichever of them is not interrupted: the first takes what it sees, the second what the first did not. A socket that a
 * system call works on is marked as owned, and packets for it wait until it is not (lock_sock()).
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(first, struct sock *sk, int from, int to)
{
	int called = !!sk->sk_lock.owned;
	struct taken *last;
	u32 zero = 0;

	if (!called) {
		last = bpf_map_lookup_elem(&taken, &zero);
		if (!last)
			return 0;
		last->sk = (u64)sk;
		last->from = from;
		last->to = to;
	}
	return change(sk, from, to, called);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(second, struct sock *sk, int from, int to)
{
	struct taken *last;
	u32 zero = 0;

	if (sk->sk_lock.owned)
		return 0;
	last = bpf_map_lookup_elem(&taken, &zero);
	if (!last)
		return 0;
	if (last->sk == (u64)sk && last->from == from && last->to == to) {
		last->sk = 0;
		return 0;
	}
	/* As many as the kernel says that it left out of the first: else some were lost, and the reader says so. */
	add(&ledger.recovered, 1);
	return change(sk, from, to, 0);
}

/* Never called and never loaded: it brings into the type information what the test of the layout looks for. */
int types(struct event *event, enum kind kind)
{
	return event ? kind : 0;
}

#include "existing.h"
#include "binds.h"
