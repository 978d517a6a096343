/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How connections come about, or do not: connect(), listen(), the handshake of those that come in. */
#ifndef TIDEWAIT_TRACE_OPENING_H
#define TIDEWAIT_TRACE_OPENING_H

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
	tally = tally_of(sk, &fresh, &at);
	keep(sk, &fresh);
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
	if (found_no_port(sk, kept)) {
		story.kind = REFUSED;
		story.error = EADDRNOTAVAIL;
	}
	tally = tally_of(sk, kept, &at);
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

	key.netns = netns_of(sk);
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

	key.netns = netns_of(sk);
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
	tally = tally_of(sk, &fresh, &at);
	if (kept)
		*kept = fresh;
	else
		keep(sk, &fresh);
	if (tally)
		add(&tally->accepts, 1);
	if (settings.events & (1 << ACCEPT)) {
		struct story story = { .kind = ACCEPT, .owner = fresh.owner };

		story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

#endif
