/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How connections end: who closed first, what was sent until then, what is left in TIME_WAIT. */
#ifndef TIDEWAIT_TRACE_CLOSING_H
#define TIDEWAIT_TRACE_CLOSING_H

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
	/* An incoming connection is the closer's: which of the processes that listen took it is not seen before. */
	if (found.owner != closer && (found.direction == INCOMING || !found.owner)) {
		found.owner = closer;
		found.row = 0;
	}
	found.closed = first;
	found.closer = closer;
	story.owner = closer;
	story.pool = found.pool;
	story.closed = first;
	weigh(sk, found.direction, &story);
	if (found.begun)
		story.lived = bpf_ktime_get_ns() - found.begun;
	tally = tally_for(sk, &found, closer, &at);
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
	tally = tally_for(sk, &found, story.owner, &at);
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
	struct net *net = net_of(sk);
	struct inet_ehash_bucket *chain;
	struct hlist_nulls_node *node;
	struct inet_hashinfo *table;
	u64 slot;
	u32 step;

	if (!net)
		return 0;
	table = net->ipv4.tcp_death_row.hashinfo;
	/* Read with a helper it is a number to the verifier, which lets nobody reckon with a pointer. */
	chain = BPF_CORE_READ(table, ehash);
	slot = sk->__sk_common.skc_hash & table->ehash_mask;
	chain = (void *)chain + slot * bpf_core_type_size(struct inet_ehash_bucket);
	node = BPF_CORE_READ(chain, chain.first);
	for (step = 0; step < CHAIN; step++) {
		struct sock_common *other;

		/* The end of a chain is marked by an odd number. */
		if (!node || (u64)node & 1)
			return 0;
		other = (void *)node - bpf_core_field_offset(struct sock_common, skc_nulls_node);
		/* The full one is still there where no small one was made. */
		if (BPF_CORE_READ(other, skc_cookie.counter) == cookie)
			return (void *)other != (void *)sk;
		node = BPF_CORE_READ(node, next);
	}
	/* Too long to look through; most of those that get here leave one. */
	return 1;
}

/* What came after this side's FIN: it is counted where the rest of the connection is. */
static __always_inline void came_later(struct sock *sk, struct connection *kept)
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
	tally = tally_for(sk, kept, kept->closer, &at);
	if (tally)
		add(&tally->received, all - kept->received);
}

/* Notes whose a socket in TIME_WAIT was. */
static __always_inline void note_waiting(u64 cookie, const struct connection *kept)
{
	u32 place = cookie & (settings.waiting - 1), now = bpf_ktime_get_ns() >> TICK_SHIFT;
	struct waiting *note;

	note = bpf_map_lookup_elem(&waiting, &place);
	if (!note)
		return;
	if (note->cookie && now - note->since < TIMEWAIT_TICKS)
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
	tally = tally_of(sk, kept, &at);
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

#endif
