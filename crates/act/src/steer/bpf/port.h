/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The local port. */
#ifndef TIDEWAIT_STEER_PORT_H
#define TIDEWAIT_STEER_PORT_H

/* How a port stands with a source that is not fixed: with every one that routing may choose. */
static __always_inline enum verdict look_all(struct attempt *attempt, u16 port)
{
	enum verdict all = FREE, one;
	struct address source = {};

	if (attempt->fixed)
		return look(attempt, &attempt->source, port);
	if (attempt->at->known) {
		for (int i = 0; i < KNOWN; i++) {
			if (i >= attempt->at->known)
				break;
			source = attempt->at->sources[i];
			one = look(attempt, &source, port);
			if (one == TAKEN)
				return TAKEN;
			if (one == OLD)
				all = OLD;
		}
		return all;
	}
	for (u32 i = 0; i < LOCALS; i++) {
		if (attempt->key.family == AF_INET) {
			if (i >= settings.locals4)
				break;
			source.words[0] = settings.local4[i].words[0];
		} else {
			if (i >= settings.locals6)
				break;
			source.words[0] = settings.local6[i].words[0];
			source.words[1] = settings.local6[i].words[1];
			source.words[2] = settings.local6[i].words[2];
			source.words[3] = settings.local6[i].words[3];
		}
		one = look(attempt, &source, port);
		if (one == TAKEN)
			return TAKEN;
		if (one == OLD)
			all = OLD;
	}
	return all;
}

/* One candidate; 1 ends the search. */
static long candidate(u32 index, struct attempt *attempt)
{
	u32 place = __sync_fetch_and_add(&attempt->at->cursor, 1) % settings.ports;
	u16 *port = bpf_map_lookup_elem(&ports, &place);
	enum verdict verdict;
	int yes = 1;

	if (!port)
		return 1;
	count(tries);
	/* Claimed first: whoever comes later than that finds either the claim or the socket. */
	if (!claim(attempt->hash, *port))
		return 0;
	verdict = look_all(attempt, *port);
	if (verdict == TAKEN) {
		release(attempt->hash, *port);
		return 0;
	}
	if (!attempt->shares) {
		if (bpf_setsockopt(attempt->ctx, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)))
			return 1;
		attempt->shares = 1;
	}
	if (bind(attempt, &attempt->source, *port)) {
		/* Somebody else has bound it, without SO_REUSEADDR or to listen. */
		count(taken);
		release(attempt->hash, *port);
		return 0;
	}
	attempt->reused = verdict == OLD;
	attempt->done = 1;
	return 1;
}

static __always_inline void port(struct attempt *attempt)
{
	u32 locals = attempt->key.family == AF_INET ? settings.locals4 : settings.locals6;
	int learning = !attempt->fixed && !attempt->at->known;

	/* The interface that connect() will bind the socket to is not known to a lookup yet. */
	if (is_link_local(&attempt->key)) {
		count(apart);
		return;
	}
	if (learning && !locals) {
		count(unknown);
		return;
	}
	attempt->hash = hash_of(&attempt->key);
	bpf_loop(settings.tries, candidate, attempt, 0);
	if (!attempt->done) {
		count(fell_back);
		return;
	}
	count(steered);
	if (learning)
		count(learning);
	if (attempt->reused)
		count(reused);
}

#endif
