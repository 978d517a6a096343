/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The source address: in turn, for each destination. */
#ifndef TIDEWAIT_STEER_SOURCE_H
#define TIDEWAIT_STEER_SOURCE_H

#define TURNS 4 /* sources that are tried for one connect() */

static __always_inline u32 sources_of(const struct attempt *attempt)
{
	return attempt->key.family == AF_INET ? attempt->offer->sources4 : attempt->offer->sources6;
}

static __always_inline void source_at(struct attempt *attempt, u32 place)
{
	place &= SOURCES - 1;
	if (attempt->key.family == AF_INET) {
		attempt->source.words[0] = attempt->offer->source4[place].words[0];
		return;
	}
	UNROLL
	for (int i = 0; i < 4; i++)
		attempt->source.words[i] = attempt->offer->source6[place].words[i];
}

/* Whether the destination is this machine itself, as far as its addresses are known. */
static __always_inline int is_here(const struct attempt *attempt)
{
	const u32 *to = attempt->key.remote.words;
	struct here_key key = { .address = attempt->key.remote, .v4 = attempt->key.family == AF_INET };
	void *addresses;

	/* Also those of the loopback that are no address of an interface. */
	if (attempt->key.family == AF_INET && bpf_ntohl(to[0]) >> 24 == 127)
		return 1;
	if (attempt->key.family == AF_INET6 && !to[0] && !to[1] && !to[2] && to[3] == bpf_htonl(1))
		return 1;
	addresses = bpf_map_lookup_elem(&here, &zero);
	return addresses && bpf_map_lookup_elem(addresses, &key);
}

/*
 * Whether the sources reach the destination. Loopback addresses reach this machine alone, and others are no source for it: a
 * service there tells its own machine by 127.0.0.1. What is on the link has its source from the link. Where no destination is named,
 * a source would become that, too.
 */
static __always_inline int reaches(const struct attempt *attempt)
{
	const u32 *to = attempt->key.remote.words;
	int inside, nowhere;

	if (attempt->key.family == AF_INET) {
		inside = attempt->offer->loopback & 1;
		nowhere = (bpf_ntohl(to[0]) >> 16) == 0xa9fe;
	} else {
		inside = attempt->offer->loopback >> 1 & 1;
		nowhere = 0;
	}
	return !nowhere && !attempt->unnamed && is_here(attempt) == inside;
}

/* Chooses a source; whether there is one. */
static __always_inline int spread(struct attempt *attempt)
{
	u32 sources = sources_of(attempt);

	if (!sources || !reaches(attempt))
		return 0;
	UNROLL
	for (int i = 0; i < TURNS; i++) {
		source_at(attempt, __sync_fetch_and_add(&attempt->at->turn, 1) % sources);
		/* With port 0 the kernel chooses it in connect(), for this destination alone (IP_BIND_ADDRESS_NO_PORT). */
		if (!bind(attempt, &attempt->source, 0)) {
			attempt->fixed = 1;
			return 1;
		}
		count(gone);
	}
	__builtin_memset(&attempt->source, 0, sizeof(attempt->source));
	return 0;
}

#endif
