/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the programs keep. */
#ifndef TIDEWAIT_STUDY_MAPS_H
#define TIDEWAIT_STUDY_MAPS_H

const volatile struct settings settings SEC(".rodata.settings") = {};
struct live live SEC(".data.live") = { .ticks_per_second = 1 };

/* The size here is the least; the loader sets the other. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct late_key);
	__type(value, struct late);
} lates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ledger);
} ledgers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct entry_key);
	__type(value, struct entry);
} entries SEC(".maps");

enum counter { LOOKED_AT, FRAGMENTS, UNREAD, FIN_WAIT2, OVERFLOW };

static __always_inline void count(enum counter counter)
{
	u32 zero = 0;
	struct ledger *ledger = bpf_map_lookup_elem(&ledgers, &zero);

	if (!ledger)
		return;
	switch (counter) {
	case LOOKED_AT:
		ledger->looked_at++;
		break;
	case FRAGMENTS:
		ledger->fragments++;
		break;
	case UNREAD:
		ledger->unread++;
		break;
	case FIN_WAIT2:
		ledger->fin_wait2++;
		break;
	case OVERFLOW:
		ledger->overflow++;
		break;
	}
}

#endif
