/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What is remembered of a connection until it ends. */
#ifndef TIDEWAIT_TRACE_KEEP_H
#define TIDEWAIT_TRACE_KEEP_H

/* The slot for a cookie, whoever has it now. */
static __always_inline struct slot *slot_for(u64 cookie)
{
	u32 place = cookie & (SLOTS - 1);

	return bpf_map_lookup_elem(&slots, &place);
}

static __always_inline u64 cookie_of(const struct sock *sk)
{
	return sk->__sk_common.skc_cookie.counter;
}

static __always_inline struct connection *kept_of(struct sock *sk)
{
	u64 cookie = cookie_of(sk);
	struct slot *slot = slot_for(cookie);

	if (cookie && slot && slot->cookie == cookie)
		return &slot->connection;
	return bpf_sk_storage_get(&connections, sk, NULL, 0);
}

static __always_inline void keep(struct sock *sk, struct connection *fresh)
{
	u64 cookie = bpf_get_socket_cookie(sk);
	struct slot *slot = slot_for(cookie);
	struct connection *kept;

	/* Changes of one socket follow each other, so that nobody else takes or frees a slot in its name. */
	if (slot && (slot->cookie == cookie || !__sync_val_compare_and_swap(&slot->cookie, 0, cookie))) {
		slot->connection = *fresh;
		return;
	}
	kept = bpf_sk_storage_get(&connections, sk, fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = *fresh; /* a socket may connect again */
	else
		add(&ledger.losses.sockets, 1);
}

/* The connection has ended. What is kept with the socket goes with the socket. */
static __always_inline void forget(const struct sock *sk)
{
	u64 cookie = cookie_of(sk);
	struct slot *slot = slot_for(cookie);

	/* An exchange, not a store: nothing that is done with the slot before may come after. */
	if (cookie && slot && slot->cookie == cookie)
		__sync_lock_test_and_set(&slot->cookie, 0);
}

#endif
