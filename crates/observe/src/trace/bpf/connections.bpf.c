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

/* connect() begins: in the caller's context. */
static __always_inline int begin(struct sock *sk)
{
	struct connection fresh = {};
	struct place at = {};
	struct tally *tally;
	u32 owner = caller();
	u16 num = sk->__sk_common.skc_num;

	fresh.begun = bpf_ktime_get_ns();
	fresh.owner = owner;
	fresh.direction = OUTGOING;
	fresh.port = local_port(sk);
	if (!num)
		fresh.pool = BY_CONNECT;
	else if (BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_BINDPORT_LOCK)
		fresh.pool = BY_THE_PROGRAM;
	else
		fresh.pool = BY_BIND;
	keep(sk, &fresh);
	locate(sk, OUTGOING, &at);
	at.flow.owner = owner;
	tally = tally_of(&at.flow);
	if (tally) {
		add(&tally->connects, 1);
		if (fresh.pool == BY_BIND)
			add(&tally->bound, 1);
		else if (fresh.pool == BY_THE_PROGRAM)
			add(&tally->fixed, 1);
	}
	if (settings.events & (1 << CONNECT)) {
		struct story story = { .kind = CONNECT, .owner = owner, .pool = fresh.pool };

		if (!num)
			at.local_port = 0; /* of an earlier connection of this socket */
		story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

/*
 * Whether connect() itself failed, for want of a port or of the very tuple: no SYN was sent, and no port was taken. A
 * connect() with TCP_FASTOPEN_CONNECT sends nothing either until the first write, but has its port; close() ends that
 * one, and marks the socket before it does.
 */
static __always_inline int found_no_port(struct sock *sk, const struct connection *kept)
{
	if (sk->sk_err || sk->sk_shutdown || BPF_CORE_READ((struct tcp_sock *)sk, segs_out))
		return 0;
	return kept->pool != BY_CONNECT || local_port(sk) == kept->port;
}

/* connect() ends without a connection. */
static __always_inline int fail(struct sock *sk)
{
	struct connection *kept = kept_of(sk);
	struct story story = { .kind = FAILED };
	struct place at = {};
	struct tally *tally;

	/* It began before the tracing did, or it came in and was not established yet. */
	if (!kept || kept->direction != OUTGOING)
		return 0;
	story.owner = kept->owner;
	story.pool = kept->pool;
	story.error = sk->sk_err;
	locate(sk, OUTGOING, &at);
	at.flow.owner = kept->owner;
	if (found_no_port(sk, kept)) {
		story.kind = REFUSED;
		story.error = EADDRNOTAVAIL;
	}
	tally = tally_of(&at.flow);
	if (tally) {
		/* A tuple that the program asked for and that is taken is no want of ports. */
		if (story.kind == REFUSED && kept->pool != BY_THE_PROGRAM)
			add(&tally->no_port, 1);
		else if (story.error == ECONNREFUSED)
			add(&tally->refused, 1);
		else if (story.error == ETIMEDOUT)
			add(&tally->unanswered, 1);
		else
			add(&tally->failed, 1);
	}
	if (settings.events & (1 << story.kind)) {
		if (story.kind == REFUSED && story.pool == BY_CONNECT)
			at.local_port = 0;
		story.lived = bpf_ktime_get_ns() - kept->begun;
		story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

static __always_inline int established(struct sock *sk)
{
	struct story story = { .kind = ESTABLISHED };
	struct place at = {};
	struct connection *kept;

	if (!(settings.events & (1 << ESTABLISHED)))
		return 0;
	kept = kept_of(sk);
	if (!kept)
		return 0;
	story.owner = kept->owner;
	story.pool = kept->pool;
	story.lived = bpf_ktime_get_ns() - kept->begun;
	story.cookie = bpf_get_socket_cookie(sk);
	locate(sk, OUTGOING, &at);
	return tell(&story, &at);
}

/*
 * Who listens on a port is noted by the port. Where several do, each with a socket of its own (SO_REUSEPORT, or another
 * address), that holds for the first; of the others it is kept with the socket, and passes to every socket that comes of
 * it. That costs an allocation for each, so that it is not done for all. `former`: who was noted for this socket before.
 */
static __always_inline void note_listening(struct sock *sk, u32 owner, u32 former)
{
	struct connection fresh = { .direction = LISTENING, .owner = owner }, *kept;
	struct listening_key key = {};
	u32 *noted;

	key.netns = sk->__sk_common.skc_net.net->ns.inum;
	key.port = sk->__sk_common.skc_num;
	noted = bpf_map_lookup_elem(&listening, &key);
	if (noted && *noted == owner)
		return;
	if (!noted || *noted == former) {
		if (bpf_map_update_elem(&listening, &key, &owner, BPF_ANY))
			add(&ledger.losses.listening, 1);
		return;
	}
	kept = bpf_sk_storage_get(&connections, sk, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = fresh;
	else
		add(&ledger.losses.sockets, 1);
}

/* listen(): in the caller's context. */
static __always_inline int listens(struct sock *sk)
{
	struct connection *kept = bpf_sk_storage_get(&connections, sk, NULL, 0);
	u32 owner = caller();

	/* A socket that was connected before: what is kept of that is not for those that come of it now. */
	if (kept)
		*kept = (struct connection){ .direction = LISTENING, .owner = owner };
	note_listening(sk, owner, 0);
	return 0;
}

/* The owner of what listens on the socket's port: the first, if there are several. */
static __always_inline u32 *listener_of(const struct sock *sk)
{
	struct listening_key key = {};

	key.netns = sk->__sk_common.skc_net.net->ns.inum;
	key.port = local_port(sk);
	return bpf_map_lookup_elem(&listening, &key);
}

/* An incoming connection is there; in whatever context the last packet of the handshake came. */
static __always_inline int accepted(struct sock *sk)
{
	struct connection fresh = { .direction = INCOMING }, *kept = kept_of(sk);
	struct place at = {};
	struct tally *tally;

	if (kept && kept->direction == OUTGOING)
		return established(sk); /* both sides called connect() */
	fresh.begun = bpf_ktime_get_ns();
	if (kept && kept->direction == LISTENING) {
		fresh.owner = kept->owner;
	} else {
		u32 *owner = listener_of(sk);

		if (owner)
			fresh.owner = *owner;
	}
	if (kept)
		*kept = fresh;
	else
		keep(sk, &fresh);
	locate(sk, INCOMING, &at);
	at.flow.owner = fresh.owner;
	tally = tally_of(&at.flow);
	if (tally)
		add(&tally->accepts, 1);
	if (settings.events & (1 << ACCEPT)) {
		struct story story = { .kind = ACCEPT, .owner = fresh.owner };

		story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

/* What is known of the socket; where its begin was not seen, its direction by whether something listens on its port. */
static __always_inline struct connection known(struct sock *sk, const struct connection *kept)
{
	struct connection found = {};
	u32 *owner;

	if (kept && kept->direction != LISTENING)
		return *kept;
	owner = listener_of(sk);
	found.direction = owner ? INCOMING : OUTGOING;
	found.owner = owner ? *owner : 0;
	return found;
}

/* Bytes received until now; the kernel counts the peer's FIN as one, whichever state it came in. */
static __always_inline u64 received(const struct sock *sk, const struct tcp_sock *tcp)
{
	u64 done = sk->__sk_common.skc_flags >> bpf_core_enum_value(enum sock_flags, SOCK_DONE) & 1;

	return tcp->bytes_received - (tcp->bytes_received ? done : 0);
}

static __always_inline void weigh(struct sock *sk, u8 direction, struct story *story)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (!tcp)
		return;
	/* What is not acknowledged yet counts as sent; the SYN does not, though bytes_acked has it on the side that connects. */
	story->sent = tcp->bytes_acked + (u32)(tcp->write_seq - tcp->snd_una);
	if (direction == OUTGOING && story->sent)
		story->sent--;
	story->received = received(sk, tcp);
}

/* FIN is about to be sent: in the context of close(), shutdown() or exit(). */
static __always_inline int closes(struct sock *sk, u8 first, int called)
{
	struct connection *kept = kept_of(sk), found = known(sk, kept);
	struct story story = { .kind = CLOSE };
	struct place at = {};
	struct tally *tally;
	u32 closer = 0;

	/*
	 * Threads of the kernel also close: the descriptor's last holder has gone before. And where shutdown() came while
	 * the handshake was not done, FIN is sent by the packet that ends it; no system call holds the socket then.
	 */
	if (called)
		closer = caller();
	if (!closer)
		closer = found.owner;
	if (!found.owner)
		found.owner = closer;
	found.closed = first;
	/* An incoming connection is the closer's: which of the processes that listen took it is not seen before. */
	if (found.direction == INCOMING)
		found.owner = closer;
	found.closer = closer;
	story.owner = closer;
	story.pool = found.pool;
	story.closed = first;
	weigh(sk, found.direction, &story);
	if (found.begun)
		story.lived = bpf_ktime_get_ns() - found.begun;
	locate(sk, found.direction, &at);
	at.flow.owner = closer;
	tally = tally_of(&at.flow);
	if (tally) {
		add(first == HERE ? &tally->closed_here : &tally->closed_there, 1);
		add(&tally->sent, story.sent);
		add(&tally->received, story.received);
		if (found.begun) {
			add(&tally->lived, story.lived);
			add(&tally->aged, 1);
		}
	}
	if (first == HERE) {
		found.received = story.received;
		/* The socket in TIME_WAIT inherits the cookie only if there is one by now. */
		story.cookie = bpf_get_socket_cookie(sk);
		if (kept)
			*kept = found;
		else
			keep(sk, &found);
	}
	if (settings.events & (1 << CLOSE)) {
		if (first != HERE)
			story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

/* An open connection ends at once. */
static __always_inline int cut(struct sock *sk, int called)
{
	struct connection found = known(sk, kept_of(sk));
	struct story story = { .kind = CLOSE };
	struct place at = {};
	struct tally *tally;

	story.error = sk->sk_err;
	story.owner = found.owner;
	/*
	 * Without an error it was this side's wish: close() with unread data or SO_LINGER 0, in the caller's context; or
	 * close() of a listener whose connections nobody had accepted: those are the listener's.
	 */
	if (!story.error && called) {
		u32 owner = caller();

		if (owner)
			story.owner = owner;
	}
	story.pool = found.pool;
	story.reset = story.error ? 2 : 1;
	weigh(sk, found.direction, &story);
	if (found.begun)
		story.lived = bpf_ktime_get_ns() - found.begun;
	locate(sk, found.direction, &at);
	at.flow.owner = story.owner;
	tally = tally_of(&at.flow);
	if (tally) {
		add(story.error ? &tally->aborted_there : &tally->aborted_here, 1);
		add(&tally->sent, story.sent);
		add(&tally->received, story.received);
		if (found.begun) {
			add(&tally->lived, story.lived);
			add(&tally->aged, 1);
		}
	}
	if (settings.events & (1 << CLOSE)) {
		story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

static __always_inline int peer_closed(struct sock *sk)
{
	struct connection found;
	struct story story = { .kind = PEER_CLOSED, .closed = THERE };
	struct place at = {};

	if (!(settings.events & (1 << PEER_CLOSED)))
		return 0;
	found = known(sk, kept_of(sk));
	story.owner = found.owner;
	story.pool = found.pool;
	if (found.begun)
		story.lived = bpf_ktime_get_ns() - found.begun;
	story.cookie = bpf_get_socket_cookie(sk);
	locate(sk, found.direction, &at);
	return tell(&story, &at);
}

/* Nodes of a hash chain that are looked at: the table has at least twice as many chains as there may be TIME_WAIT. */
#define CHAIN 32

/*
 * Whether a small socket has taken the place of this one in the table of connections. Only looking tells: FIN_WAIT2 and
 * CLOSING also end without one, and without any error that could be seen now, by SO_LINGER 0, TCP_LINGER2 below 0, data
 * that nobody read, too many orphans, tcp_max_tw_buckets. The small one has the cookie, if the full one had it by then.
 */
static __always_inline int left_behind(struct sock *sk, u64 cookie)
{
	struct inet_hashinfo *table = sk->__sk_common.skc_net.net->ipv4.tcp_death_row.hashinfo;
	/* Read with a helper it is a number to the verifier, which lets nobody reckon with a pointer. */
	struct inet_ehash_bucket *chain = BPF_CORE_READ(table, ehash);
	u64 slot = sk->__sk_common.skc_hash & table->ehash_mask;
	struct hlist_nulls_node *node;
	u32 step;

	chain = (void *)chain + slot * bpf_core_type_size(struct inet_ehash_bucket);
	node = BPF_CORE_READ(chain, chain.first);
	for (step = 0; step < CHAIN; step++) {
		struct sock_common *other;

		/* The end of a chain is marked by an odd number. */
		if (!node || (u64)node & 1)
			return 0;
		other = (void *)node - bpf_core_field_offset(struct sock_common, skc_nulls_node);
		if (BPF_CORE_READ(other, skc_cookie.counter) == cookie &&
		    BPF_CORE_READ(other, skc_state) == TCP_TIME_WAIT)
			return 1;
		node = BPF_CORE_READ(node, next);
	}
	/* Too long to look through; most of those that get here leave one. */
	return 1;
}

/* What came after this side's FIN: it is counted where the rest of the connection is. */
static __always_inline void came_later(struct sock *sk, const struct connection *kept)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct place at = {};
	struct tally *tally;
	u64 all;

	if (!tcp)
		return;
	all = received(sk, tcp);
	if (all <= kept->received)
		return;
	locate(sk, kept->direction, &at);
	at.flow.owner = kept->closer;
	tally = tally_of(&at.flow);
	if (tally)
		add(&tally->received, all - kept->received);
}

/* Notes whose a socket in TIME_WAIT was. */
static __always_inline void note_waiting(u64 cookie, const struct connection *kept)
{
	u32 place = cookie & (settings.waiting - 1), now = bpf_ktime_get_ns() / NSEC_PER_SEC;
	struct waiting *note;

	note = bpf_map_lookup_elem(&waiting, &place);
	if (!note)
		return;
	if (note->cookie && now - note->since < TIMEWAIT_SECONDS)
		add(&ledger.losses.waiting, 1);
	note->cookie = 0; /* who reads it now sees no half of it */
	barrier();
	note->owner = kept->owner;
	note->closer = kept->closer;
	note->since = now;
	note->direction = kept->direction;
	note->pool = kept->pool;
	barrier();
	note->cookie = cookie;
}

/*
 * A socket that was closed here first goes. What is left of it may be a small one in TIME_WAIT, or in FIN_WAIT2 until the
 * peer's FIN comes.
 */
static __always_inline int ends(struct sock *sk, int from)
{
	struct connection *kept = kept_of(sk);
	struct place at = {};
	struct tally *tally;
	u64 cookie;

	if (!kept || kept->closed != HERE)
		return 0;
	came_later(sk, kept);
	/* An error: killed by RST, SOCK_DESTROY or a timer. */
	if (from == TCP_FIN_WAIT1 || sk->sk_err)
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	if (!left_behind(sk, cookie))
		return 0;
	if (settings.waiting)
		note_waiting(cookie, kept);
	locate(sk, kept->direction, &at);
	at.flow.owner = kept->owner;
	tally = tally_of(&at.flow);
	if (tally)
		add(&tally->time_wait, 1);
	if (settings.events & (1 << TIME_WAIT)) {
		struct story story = { .kind = TIME_WAIT, .closed = HERE };

		story.owner = kept->owner;
		story.pool = kept->pool;
		story.cookie = cookie;
		if (kept->begun)
			story.lived = bpf_ktime_get_ns() - kept->begun;
		tell(&story, &at);
	}
	return 0;
}

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
