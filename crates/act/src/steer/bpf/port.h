/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The local port. */
#ifndef TIDEWAIT_STEER_PORT_H
#define TIDEWAIT_STEER_PORT_H

static __always_inline u32 locals_of(const struct attempt *attempt)
{
	return attempt->key.family == AF_INET ? attempt->offer->locals4 : attempt->offer->locals6;
}

/* A port that is held against every local address. */
struct against {
	struct attempt *attempt;
	enum verdict verdict;
	u16 port;
};

static long against_local(u32 index, struct against *against)
{
	struct attempt *attempt = against->attempt;
	struct address source = {};
	enum verdict verdict;

	if (index >= locals_of(attempt))
		return 1;
	index &= LOCALS - 1;
	if (attempt->key.family == AF_INET) {
		source.words[0] = attempt->offer->local4[index].words[0];
	} else {
		source.words[0] = attempt->offer->local6[index].words[0];
		source.words[1] = attempt->offer->local6[index].words[1];
		source.words[2] = attempt->offer->local6[index].words[2];
		source.words[3] = attempt->offer->local6[index].words[3];
	}
	verdict = look(attempt, &source, against->port);
	if (verdict != FREE)
		against->verdict = verdict;
	return verdict == TAKEN;
}

/* How a port stands with a source that is not fixed: with every one that routing may choose. */
static __always_inline enum verdict look_all(struct attempt *attempt, u16 port)
{
	struct against against = { .attempt = attempt, .verdict = FREE, .port = port };
	enum verdict all = FREE, one;

	if (attempt->fixed)
		return look(attempt, &attempt->source, port);
	if (!attempt->at->known) {
		/* Not as many as there are: of a loop that is known to go round 0 times the verifier loses the function ("No program to jit"). */
		bpf_loop(LOCALS, against_local, &against, 0);
		return against.verdict;
	}
	UNROLL
	for (int i = 0; i < KNOWN; i++) {
		struct address source = attempt->at->sources[i];

		if (i >= attempt->at->known)
			break;
		one = look(attempt, &source, port);
		if (one == TAKEN)
			return TAKEN;
		if (one == OLD)
			all = OLD;
	}
	return all;
}

#define IN_ORDER 32  /* candidates from the cursor on; then by lot */
#define VAIN 4       /* searches in a row that find nothing, after which it is not bad luck: at 99 % one in 20,000 finds nothing */
#define RESTS 24     /* ticks, 0.1 s, for which they keep the next ones short */
#define SHORT 64     /* candidates of a short search */
#define LASTS 960    /* ticks, 4 s, for which what was found taken is passed over, */
#define TRUST 128    /* by so many candidates of a search, and half of a short one */

/*
 * Whether a tuple was found taken a moment ago. A look-up in the kernel takes several times as long as this, and at 95 % in use
 * twenty are needed. What has come free meanwhile is passed over until then, so a search that finds nothing goes on without this.
 */
static __always_inline u32 *mark_of(const struct attempt *attempt, u32 place)
{
	u32 at = (attempt->hash + place) & (MARKS - 1);

	return bpf_map_lookup_elem(&marks, &at);
}

/* What stands there: whose it is, as far as 16 bits tell, and since when. One in 65,536 of others is taken for it, and passed over. */
static __always_inline u32 mark(const struct attempt *attempt, u16 port)
{
	return ((attempt->hash ^ (u32)port << 16) & 0xffff0000) | attempt->now;
}

static __always_inline int is_fresh(const struct attempt *attempt, u32 found, u16 port)
{
	return !((found ^ mark(attempt, port)) >> 16) && (u16)(attempt->now - (u16)found) < LASTS;
}

/*
 * One candidate; 1 ends the search. In order, the port that was given longest ago is looked at first, and at a steady rate
 * its TIME_WAIT has just ended. Where many in a row are taken, candidates by lot get out of there, and the cursor with them:
 * then it takes 1 / (1 - fill) of them, however the taken ports lie.
 */
static long candidate(u32 index, struct attempt *attempt)
{
	u32 place = index < IN_ORDER ? __sync_fetch_and_add(&attempt->at->cursor, 1) : bpf_get_prandom_u32();
	enum verdict verdict;
	int yes = 1;
	u32 *found;
	u16 port;

	place %= attempt->offer->ports;
	port = attempt->offer->port[place & (PORTS - 1)];
	found = mark_of(attempt, place);
	if (!found || (index < attempt->trust && is_fresh(attempt, *found, port)))
		return 0;
	attempt->tries++;
	/* To this machine, a connection from a port to itself would meet itself where nobody listens (RFC 9293 3.5, simultaneous open). */
	if (bpf_htons(port) == attempt->key.port)
		return 0;
	/* Claimed first: whoever comes later than that finds either the claim or the socket. */
	if (!claim(attempt->hash, port))
		return 0;
	verdict = look_all(attempt, port);
	if (verdict == TAKEN) {
		release(attempt->hash, port);
		*found = mark(attempt, port);
		return 0;
	}
	/* What it was held against may have been another destination's sources. */
	if (!belongs(attempt->at, &attempt->key)) {
		release(attempt->hash, port);
		return 1;
	}
	if (!attempt->shares) {
		if (bpf_setsockopt(attempt->ctx, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes))) {
			release(attempt->hash, port);
			return 1;
		}
		attempt->shares = 1;
		attempt->lent = 1;
	}
	if (bind(attempt, &attempt->source, port)) {
		/* Somebody else has bound it, without SO_REUSEADDR or to listen. */
		count(taken);
		attempt->refused = 1;
		release(attempt->hash, port);
		return 0;
	}
	if (index >= IN_ORDER)
		attempt->at->cursor = place + 1;
	attempt->reused = verdict == OLD;
	attempt->done = 1;
	return 1;
}

/* No candidate was taken: the socket is as it was before, and keeps the source that the program or spread() gave it. */
static __always_inline void undo(struct attempt *attempt)
{
	int no = 0;

	if (attempt->lent)
		bpf_setsockopt(attempt->ctx, SOL_SOCKET, SO_REUSEADDR, &no, sizeof(no));
	if (attempt->refused && attempt->fixed)
		bind(attempt, &attempt->source, 0);
}

static __always_inline void port(struct attempt *attempt)
{
	u32 tries = settings.tries, tick, locals;
	struct counts *counts;
	int learning = !attempt->fixed && !attempt->at->known, resting;

	/*
	 * A load balancer's address is never where a connection has gone; what is free for that says nothing of where it goes. And it
	 * may take no address for one of its own.
	 */
	if (settings.careful && (attempt->unnamed || !attempt->at->seen)) {
		count(unknown);
		return;
	}
	if (learning) {
		locals = locals_of(attempt);
		if (!locals) {
			count(unknown);
			return;
		}
		/* Each candidate is held against all of them: it is to take no longer for that. */
		tries /= locals;
	}
	attempt->hash = hash_of(&attempt->key);
	tick = bpf_ktime_get_coarse_ns() >> TICK_SHIFT;
	resting = attempt->at->vain >= VAIN && tick - attempt->at->full < RESTS;
	if (resting)
		tries = tries < SHORT ? tries : SHORT;
	attempt->now = tick;
	attempt->trust = tries / 2 < TRUST ? tries / 2 : TRUST;
	if (attempt->offer->ports)
		bpf_loop(tries, candidate, attempt, 0);
	counts = bpf_map_lookup_elem(&counted, &zero);
	if (counts)
		__sync_fetch_and_add(&counts->tries, attempt->tries);
	if (!attempt->done) {
		undo(attempt);
		/*
		 * What took so long was the want of a source, which is known from now on. And a short one that finds nothing
		 * says little: it does not make the rest longer.
		 */
		if (!learning && !resting) {
			attempt->at->full = tick;
			attempt->at->vain++;
		}
		count(fell_back);
		return;
	}
	if (attempt->at->vain)
		attempt->at->vain = 0;
	count(steered);
	if (learning)
		count(learning);
	if (attempt->reused)
		count(reused);
}

#endif
