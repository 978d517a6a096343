/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connections that were seen open within the present tick: their segments need not be looked up, and most segments are theirs.
 *
 * A socket gets into TIME_WAIT only after the peer's FIN came, and every FIN passes here. A connection is remembered when a
 * lookup finds it in ESTABLISHED, until its FIN, SYN or RST comes or the tick (CONFIG_HZ: 1 to 10 ms) is over. Wrongly so only
 * where, all within one tick, a FIN overtakes data, that data comes, the program closes, and the peer acknowledges that.
 */
#ifndef TIDEWAIT_STUDY_OPEN_H
#define TIDEWAIT_STUDY_OPEN_H

#define TCP_ESTABLISHED 1
#define TCP_TIME_WAIT 6

/* Few enough to stay in the cache; who does not fit is looked up. */
#define OPEN_BITS 12
static u64 open[1 << OPEN_BITS];

static __always_inline u64 blend(u64 hash, u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 32;
}

/* What stands for a connection in this tick; never 0. Nobody can choose addresses for it, for want of the seed. */
static __always_inline u64 sign_of(const struct flow *flow, u32 interface)
{
	const u32 *local = (const u32 *)flow->local, *remote = (const u32 *)flow->remote;
	u64 sign = blend(settings.seed ^ bpf_jiffies64(), (u64)local[0] << 32 | remote[0]);

	if (flow->family == AF_INET6) {
		sign = blend(sign, (u64)local[1] << 32 | remote[1]);
		sign = blend(sign, (u64)local[2] << 32 | remote[2]);
		sign = blend(sign, (u64)local[3] << 32 | remote[3]);
	}
	sign = blend(sign, (u64)interface << 32 | (u32)flow->local_port << 16 | flow->remote_port);
	return blend(sign, settings.seed) | 1;
}

static __always_inline u64 *place_of(u64 sign)
{
	return &open[sign >> (64 - OPEN_BITS)];
}

#endif
