/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * With SO_REUSEADDR two sockets can bind one port, and if they connect to the same destination the second connect() fails.
 * So a tuple is claimed before it is looked up, and the claim stands until the socket is in the kernel's table.
 */
#ifndef TIDEWAIT_STEER_CLAIM_H
#define TIDEWAIT_STEER_CLAIM_H

#define TICK_SHIFT 22 /* a tick is 2^22 ns, 4.2 ms */
#define STANDS 240    /* ticks, 1 s: whoever was not heard of by then has failed */

static __always_inline u32 hash_of(const struct destination_key *key)
{
	u32 hash = key->port | (u32)key->family << 16;

	UNROLL
	for (int i = 0; i < 4; i++) {
		hash = (hash ^ key->remote.words[i]) * 0x9e3779b1;
		hash ^= hash >> 15;
	}
	return hash;
}

static __always_inline u64 *claim_slot(u32 hash, u16 port)
{
	u32 place = (hash + port * 0x85ebca6b);

	place = (place ^ place >> 16) & (CLAIMS - 1);
	return bpf_map_lookup_elem(&claims, &place);
}

/* What stands in the slot of a tuple, but for the time. */
static __always_inline u64 claim_mark(u32 hash, u16 port)
{
	return (u64)hash << 32 | (u32)port << 16;
}

/* Whether the tuple is ours now. */
static __always_inline int claim(u32 hash, u16 port)
{
	u64 *slot = claim_slot(hash, port);
	u64 mark, former;
	u16 now;

	if (!slot)
		return 0;
	now = bpf_ktime_get_coarse_ns() >> TICK_SHIFT;
	mark = claim_mark(hash, port) | now;
	former = *slot;
	if (!((former ^ mark) >> 16) && (u16)(now - (u16)former) < STANDS)
		return 0;
	return __sync_val_compare_and_swap(slot, former, mark) == former;
}

static __always_inline void release(u32 hash, u16 port)
{
	u64 *slot = claim_slot(hash, port);
	u64 former;

	if (!slot)
		return;
	former = *slot;
	if (former && !((former ^ claim_mark(hash, port)) >> 16))
		__sync_val_compare_and_swap(slot, former, 0);
}

#endif
