/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the programs keep, and the small tools that all of them use. */
#ifndef TIDEWAIT_TRACE_MAPS_H
#define TIDEWAIT_TRACE_MAPS_H

/* Each in a section of its own, where the loader finds it at the beginning. */
const volatile struct settings settings SEC(".rodata.settings") = {};
struct ledger ledger SEC(".data.ledger") = { .owners = 1, .flows = 1 };

/* The sizes here are the least; the loader sets those of the machine. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct owner_key);
	__type(value, u32);
} owner_numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct owner);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, struct cgroup_path);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, u32);
} flow_numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct flow);
} flows SEC(".maps");

/*
 * What is kept of a connection is in the slot that its cookie tells, until the connection ends; where another one has
 * that slot, it is kept with the socket. Most connections thus need no memory of their own: to allocate and to free it
 * costs more than all else here.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

/* The owner of a socket that listened before the tracing began, by its cookie: it may be in several processes' files. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, u32);
} listeners SEC(".maps");

/*
 * A note's place is the cookie, modulo the size. The kernel gives cookies in order, so the newest note takes the place of
 * about the oldest, as in an LRU map, for a twentieth of its cost (20 ns instead of 370 for each TIME_WAIT).
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct waiting);
} waiting SEC(".maps");

/* The value is the owner of what listens, 0 if nobody could be found. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct listening_key);
	__type(value, u32);
} listening SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

static const struct cgroup_path no_path;

/*
 * Numbers that were found lately, in a place that a part of the key tells. Each is a guess, held against the whole key;
 * a good one spares a look into a hash map: 15 ns instead of 55, for each event once for its owner and once for its flow.
 */
#define RECENT_BITS 10
u32 recent_owners[1 << RECENT_BITS];
u32 recent_flows[1 << RECENT_BITS];

/* Compares whole words; both begin at one. */
#define same(left, right) same_words((const void *)(left), (const void *)(right), sizeof(*(right)) / sizeof(word))

static __always_inline int same_words(const word *left, const word *right, int count)
{
	word difference = 0;

	for (int i = 0; i < count; i++)
		difference |= left[i] ^ right[i];
	return !difference;
}

#define barrier() asm volatile("" ::: "memory")

static __always_inline void add(u64 *count, u64 by)
{
	if (!__builtin_constant_p(by)) {
		/* Another number to the verifier: else it goes on with "it was 0" and "it was not" apart, and twice as long. */
		asm volatile("%0 ^= 0" : "+r"(by));
		if (!by)
			return;
	}
	__sync_fetch_and_add(count, by);
}

#endif
