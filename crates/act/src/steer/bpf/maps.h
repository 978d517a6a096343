/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the programs keep, and the small tools that all of them use. */
#ifndef TIDEWAIT_STEER_MAPS_H
#define TIDEWAIT_STEER_MAPS_H

/* In a section of its own, where the loader finds it at the beginning. */
const volatile struct settings settings SEC(".rodata.settings") = {};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counts);
} counted SEC(".maps");

/* What may be given: the one map inside is replaced, and who has begun with it ends with it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(max_entries, 1);
		/* By their sizes: of a type that is named here alone clang writes no members. */
		__uint(key_size, sizeof(u32));
		__uint(value_size, sizeof(struct offer));
	});
} offers SEC(".maps");

/* All addresses of this machine, however many: the one map inside is replaced as that of the offer is, and is of their number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(struct here_key));
		__uint(value_size, sizeof(u32));
	});
} here SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct destination_key);
	__type(value, struct destination);
} destinations SEC(".maps");

/* Tuples that were given out and are not in the kernel's table yet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CLAIMS);
	__type(key, u32);
	__type(value, u64);
} claims SEC(".maps");

/* Tuples that were found taken a moment ago, by destination and place in the offer, so that those looked at in order lie side by side. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MARKS);
	__type(key, u32);
	__type(value, u32);
} marks SEC(".maps");

static const u32 zero;

/* The counts are this processor's own, and nothing of this kind interrupts a connect(). */
#define count(what)                                                                  \
	do {                                                                         \
		struct counts *counts_ = bpf_map_lookup_elem(&counted, &zero);       \
		if (counts_)                                                         \
			__sync_fetch_and_add(&counts_->what, 1);                     \
	} while (0)

/*
 * The verifier takes no pointer into the context or a socket, only a member by its offset; clang would otherwise make one
 * load of two branches.
 */
#define once(member) (*(volatile typeof(member) *)&(member))

/*
 * Linux 6.1 takes a loop only where a jump closes it (check_cfg(): "back-edge"), and clang does not promise one. So there
 * are none: short ones are unrolled, for others there is bpf_loop().
 */
#define UNROLL _Pragma("clang loop unroll(full)")

static __always_inline int is_any(const struct address *address)
{
	return !(address->words[0] | address->words[1] | address->words[2] | address->words[3]);
}

/* ::ffff:0:0/96, an address of IPv4 */
static __always_inline int is_mapped(const u32 words[4])
{
	return !(words[0] | words[1] | (words[2] ^ bpf_htonl(0xffff)));
}

static __always_inline int same(const struct address *left, const struct address *right)
{
	return !((left->words[0] ^ right->words[0]) | (left->words[1] ^ right->words[1]) |
		 (left->words[2] ^ right->words[2]) | (left->words[3] ^ right->words[3]));
}

#endif
