/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the programs of the probes share: a map of numbers that the loader and the programs pass each other. */
#ifndef TIDEWAIT_PROBE_SLOTS_H
#define TIDEWAIT_PROBE_SLOTS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Where the programs find what to do and leave what they saw; the loader names the same slots. */
enum slot {
	WANTED_NETNS, /* inode of the network namespace that counts */
	WANTED_PORT,  /* local port to choose, in host order */
	HITS,	      /* how often the program ran for the probe's own sockets */
	COOKIE,	      /* of the last such socket */
	CGROUP,	      /* id of the cgroup it ran in */
	CLOCK,	      /* bpf_ktime_get_ns() */
	TAKEN,	      /* whether bpf_skc_lookup_tcp() found the listener */
	SLOTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

static __always_inline __u64 get(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&slots, &slot);

	return value ? *value : 0;
}

static __always_inline void put(__u32 slot, __u64 value)
{
	bpf_map_update_elem(&slots, &slot, &value, BPF_ANY);
}

static __always_inline void hit(void)
{
	__u32 slot = HITS;
	__u64 *value = bpf_map_lookup_elem(&slots, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#endif
