/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A destination, what is remembered of it, and who has a tuple already. */
#ifndef TIDEWAIT_STEER_PLACE_H
#define TIDEWAIT_STEER_PLACE_H

struct attempt {
	struct bpf_sock_addr *ctx;
	struct destination *at;
	const struct offer *offer;
	struct destination_key key;
	struct address source; /* where it is fixed */
	u32 hash;
	u8 v6;	  /* of an IPv6 socket; the destination may be IPv4 all the same */
	u8 unnamed; /* the program names no destination: the one in `key` is what the kernel makes of that */
	u8 fixed; /* the source is given, by the program or by us */
	u8 shares; /* SO_REUSEADDR is set */
	u8 lent;   /* by us */
	u8 refused; /* a bind() was refused, and has taken the source with it (__inet_bind(), inet_reset_saddr()) */
	u8 done;
	u16 now;   /* ticks */
	u32 trust; /* candidates up to which a mark is believed */
	u32 tries; /* candidates that were looked at */
	u32 reused;
};

/* fe80::/10 */
static __always_inline int is_link_local(const struct destination_key *key)
{
	return key->family == AF_INET6 && (key->remote.words[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline const struct offer *offered(void)
{
	void *offer = bpf_map_lookup_elem(&offers, &zero);

	return offer ? bpf_map_lookup_elem(offer, &zero) : 0;
}

/* Whether it is still that of `key`. */
static __always_inline int belongs(const struct destination *at, const struct destination_key *key)
{
	return at->key.port == key->port && at->key.family == key->family && same(&at->key.remote, &key->remote);
}

static __always_inline struct destination *destination(const struct destination_key *key)
{
	struct destination *at = bpf_map_lookup_elem(&destinations, key);

	if (at)
		return at;
	struct destination new = {
		.key = *key,
		.cursor = bpf_get_prandom_u32(),
		.turn = bpf_get_prandom_u32(),
	};
	bpf_map_update_elem(&destinations, key, &new, BPF_NOEXIST);
	return bpf_map_lookup_elem(&destinations, key);
}

/* Notes the source that routing chose. Two processors may do so at once: then one is noted the next time. */
static __always_inline void learn(struct destination *at, const struct address *local)
{
	u32 place;

	UNROLL
	for (int i = 0; i < KNOWN; i++)
		if (i < at->known && same(&at->sources[i], local))
			return;
	if (at->known < KNOWN) {
		place = at->known & (KNOWN - 1);
		at->sources[place] = *local;
		at->known = place + 1;
		return;
	}
	place = at->oldest & (KNOWN - 1);
	at->sources[place] = *local;
	at->oldest = place + 1;
}

enum verdict {
	FREE,
	TAKEN,
	OLD, /* a TIME_WAIT that may be taken */
};

/* Whether a TIME_WAIT may be taken: the kernel itself would at once, if the peer's timestamps protect it. */
static __always_inline int is_old(struct bpf_sock *found)
{
	struct tcp_timewait_sock *waiting;
	u64 now;

	if (!settings.reuse_after || found->state != TCP_TIME_WAIT)
		return 0;
	waiting = bpf_skc_to_tcp_timewait_sock(found);
	if (!waiting || waiting->tw_sk.tw_substate != TCP_TIME_WAIT || waiting->tw_ts_recent_stamp <= 0)
		return 0;
	/* Whole seconds of CLOCK_MONOTONIC, when the peer was heard last: more than asked for is as much at least. */
	now = bpf_ktime_get_ns() / 1000000000;
	return now > (u64)waiting->tw_ts_recent_stamp + settings.reuse_after;
}

static __always_inline enum verdict look(struct attempt *attempt, const struct address *source, u16 port)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *found;
	enum verdict verdict = TAKEN;

	/* As a packet from there would say it. */
	if (attempt->key.family == AF_INET) {
		tuple.ipv4.saddr = attempt->key.remote.words[0];
		tuple.ipv4.sport = attempt->key.port;
		tuple.ipv4.daddr = source->words[0];
		tuple.ipv4.dport = bpf_htons(port);
		found = bpf_skc_lookup_tcp(attempt->ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, attempt->key.remote.words, 16);
		tuple.ipv6.sport = attempt->key.port;
		__builtin_memcpy(tuple.ipv6.daddr, source->words, 16);
		tuple.ipv6.dport = bpf_htons(port);
		found = bpf_skc_lookup_tcp(attempt->ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!found)
		return FREE;
	if (is_old(found))
		verdict = OLD;
	bpf_sk_release(found);
	return verdict;
}

/* bind() as the program might have called it. */
static __always_inline int bind(struct attempt *attempt, const struct address *source, u16 port)
{
	if (!attempt->v6) {
		struct sockaddr_in {
			u16 family;
			u16 port;
			u32 address;
			u8 pad[8];
		} local = { .family = AF_INET, .port = bpf_htons(port), .address = source->words[0] };

		return bpf_bind(attempt->ctx, (struct sockaddr *)&local, sizeof(local));
	}
	struct sockaddr_in6 {
		u16 family;
		u16 port;
		u32 flow;
		u32 address[4];
		u32 scope;
	} local = { .family = AF_INET6, .port = bpf_htons(port) };

	if (attempt->key.family == AF_INET6) {
		__builtin_memcpy(local.address, source->words, 16);
	} else if (!is_any(source)) {
		local.address[2] = bpf_htonl(0xffff);
		local.address[3] = source->words[0];
	}
	return bpf_bind(attempt->ctx, (struct sockaddr *)&local, sizeof(local));
}

#endif
