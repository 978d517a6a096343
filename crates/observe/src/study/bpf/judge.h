/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a segment for a socket in TIME_WAIT is, and how old the TIME_WAIT: as tcp_timewait_state_process sees it. */
#ifndef TIDEWAIT_STUDY_JUDGE_H
#define TIDEWAIT_STUDY_JUDGE_H

/* In the order of Kind::ALL (crates/model/src/study.rs). */
enum kind { FIN_AGAIN, OLD_DATA, NEW_DATA, SYN_ACCEPTED, SYN_REFUSED, RST_KILLS, RST_IGNORED, PLAIN_ACK, OTHER };

/* The end of the connection that a socket is, with IPv4 taken out of mapped addresses. */
static __always_inline void read_flow(struct inet_timewait_sock *tw, struct flow *flow)
{
	struct sock_common *common = &tw->__tw_common;

	flow->family = BPF_CORE_READ(common, skc_family);
	flow->local_port = BPF_CORE_READ(common, skc_num);
	flow->remote_port = bpf_ntohs(BPF_CORE_READ(common, skc_dport));
	flow->netns = BPF_CORE_READ(common, skc_net.net, ns.inum);
	if (flow->family == AF_INET6) {
		u32 *remote = (u32 *)flow->remote;

		BPF_CORE_READ_INTO(&flow->remote, common, skc_v6_daddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(&flow->local, common, skc_v6_rcv_saddr.in6_u.u6_addr8);
		if (remote[0] || remote[1] || remote[2] != bpf_htonl(0xffff))
			return;
		flow->family = AF_INET;
		__builtin_memset(flow->remote, 0, 16);
		__builtin_memset(flow->local, 0, 16);
	}
	*(u32 *)flow->remote = BPF_CORE_READ(common, skc_daddr);
	*(u32 *)flow->local = BPF_CORE_READ(common, skc_rcv_saddr);
}

/* What a socket in TIME_WAIT knows of its peer. */
struct known {
	u32 next; /* the sequence number after the peer's FIN */
	u32 recent; /* the peer's newest timestamp */
	s32 recent_at; /* when it came, in seconds; 0 without timestamps */
	u32 rfc1337;
};

/* What a segment is to it: the kind, and besides these. */
#define REJECTED 0x100 /* given away as old by its timestamp */
#define RENEWS 0x200 /* the timer begins anew */

static __always_inline int after(u32 one, u32 other)
{
	return (s32)(other - one) < 0;
}

__noinline u32 verdict(const struct segment *segment, const struct known *known)
{
	if (!segment || !known)
		return OTHER;

	u8 flags = segment->header.bytes[13];
	u64 stamp = known->recent_at ? timestamp(segment) : 0;
	s32 newer = (u32)stamp - known->recent;
	u32 begin = bpf_ntohl(segment->header.words[1]);
	u32 end = begin + (segment->total - header_length(segment)) + !!(flags & SYN) + !!(flags & FIN);
	u32 marks = 0;
	int exact;

	/* tcp_paws_reject */
	if (stamp && known->recent && newer < 0) {
		s32 since = (u32)(bpf_ktime_get_ns() / 1000000000) - known->recent_at;

		if (since < TCP_PAWS_WRAP && !((flags & RST) && since >= TCP_PAWS_MSL))
			marks = REJECTED;
	}
	exact = !marks && begin == known->next && (begin == end || (flags & RST));
	if (flags & RST)
		return marks | (exact && !known->rfc1337 ? RST_KILLS : RST_IGNORED);
	if ((flags & (SYN | ACK)) == SYN && !marks && (after(begin, known->next) || (stamp && newer > 0)))
		return SYN_ACCEPTED;
	if (exact || marks || (flags & ACK))
		marks |= RENEWS;
	if (flags & SYN)
		return marks | (flags & ACK ? OTHER : SYN_REFUSED);
	if (begin == end)
		return marks | (flags & ACK ? PLAIN_ACK : OTHER);
	if (after(end, known->next))
		return marks | NEW_DATA;
	return marks | ((flags & FIN) && end == known->next ? FIN_AGAIN : OLD_DATA);
}

/* The band that an age belongs to. */
__noinline u32 band_of(u64 age)
{
	u32 band = 0;
	int i;

	for (i = 1; i < BANDS; i++)
		if (age >= settings.band_begins[i])
			band = i;
	return band;
}

/*
 * Milliseconds since TIME_WAIT began. `renews`: its timer is about to begin anew, and will tell no more how old it is. The
 * kernel itself notes that only since 6.14, and for peers with timestamps: of an orphan without them the note stays that of its
 * FIN_WAIT2 (net/ipv4/tcp_minisocks.c tcp_timewait_state_process, 6.14 to 6.18).
 */
static __always_inline u64 age_of(struct inet_timewait_sock *tw, const struct flow *flow, int stamps, int renews)
{
	struct inet_timewait_sock___stamped *stamped = (void *)tw;
	u64 now = bpf_ktime_get_ns() / 1000000, ticks = bpf_jiffies64();
	u64 per_second = live.ticks_per_second ?: 1;
	u64 whole = (u64)live.time_wait_ms * per_second / 1000;
	struct entry_key key = {};
	struct entry entry;
	u64 age;

	__builtin_memcpy(key.local, flow->local, 16);
	__builtin_memcpy(key.remote, flow->remote, 16);
	key.local_port = flow->local_port;
	key.remote_port = flow->remote_port;
	key.family = flow->family;
	if (bpf_core_field_exists(stamped->tw_entry_stamp) && stamps) {
		s32 since = (u32)now - BPF_CORE_READ(stamped, tw_entry_stamp);

		age = since > 0 ? since : 0;
	} else {
		struct entry *known = bpf_map_lookup_elem(&entries, &key);
		u64 expires = BPF_CORE_READ(tw, tw_timer.expires);

		/* The timer as it was left when it began anew: it is the same TIME_WAIT. */
		u64 slack = per_second / 10 + 2;

		if (known && expires + slack >= known->expires && expires <= known->expires + slack)
			age = now - known->birth_ms;
		else
			age = ticks + whole > expires ? (ticks + whole - expires) * 1000 / per_second : 0;
	}
	if (renews) {
		entry.birth_ms = now - age;
		entry.renewed_ms = now;
		entry.expires = ticks + whole;
		bpf_map_update_elem(&entries, &key, &entry, BPF_ANY);
	}
	return age;
}

static __always_inline int has(const u64 *ports, u16 port)
{
	u32 word = port >> 6;

	/* So that the verifier sees the bound. */
	forget(word);
	return ports[word & 1023] >> (port & 63) & 1;
}

/* `Services::end` in sockets.rs. */
__noinline int is_incoming(u16 local, u16 remote)
{
	if (has(live.services, local))
		return 1;
	/* Whose port was chosen for it; the peer's range is not known, and most likely stock. */
	return !has(live.chosen, local) && (has(live.chosen, remote) || (remote >= 32768 && remote <= 60999));
}

static __always_inline void tally(struct late_key *key, int rejected, u64 age)
{
	static const struct late nothing;
	struct late *late = bpf_map_lookup_elem(&lates, key);
	int i;

	if (!late) {
		bpf_map_update_elem(&lates, key, &nothing, BPF_NOEXIST);
		late = bpf_map_lookup_elem(&lates, key);
	}
	if (!late) {
		/* No room: with all others of its kind and age. The reader has put these in before. */
		count(OVERFLOW);
		__builtin_memset(key->end, 0, sizeof(key->end));
		key->port = 0;
		key->family = 0;
		key->scope = 0;
		late = bpf_map_lookup_elem(&lates, key);
		if (!late)
			return;
	}
	__sync_fetch_and_add(&late->segments, 1);
	if (rejected)
		__sync_fetch_and_add(&late->rejected, 1);
	for (i = 0; i < 4; i++) {
		u64 latest = late->latest_ms;

		if (late->at && age <= latest)
			return;
		if (__sync_val_compare_and_swap(&late->latest_ms, latest, age) == latest) {
			late->at = bpf_ktime_get_ns();
			return;
		}
	}
}

static __always_inline void judge(struct inet_timewait_sock *tw, const struct flow *flow, const struct segment *segment)
{
	struct tcp_timewait_sock *waiting = (void *)tw;
	u32 header = header_length(segment), seen;
	struct late_key key = {};
	struct known known;
	u64 age;

	if (BPF_CORE_READ(tw, tw_substate) == TCP_FIN_WAIT2) {
		count(FIN_WAIT2);
		return;
	}
	if (header < sizeof(segment->header) || header > segment->total) {
		count(UNREAD);
		return;
	}
	known.next = BPF_CORE_READ(tw, __tw_common.skc_tw_rcv_nxt);
	known.recent = BPF_CORE_READ(waiting, tw_ts_recent);
	known.recent_at = BPF_CORE_READ(waiting, tw_ts_recent_stamp);
	known.rfc1337 = BPF_CORE_READ(tw, __tw_common.skc_net.net, ipv4.sysctl_tcp_rfc1337);
	seen = verdict(segment, &known);
	age = age_of(tw, flow, known.recent_at != 0, seen & RENEWS);
	key.kind = seen;
	key.band = band_of(age);
	key.direction = is_incoming(flow->local_port, flow->remote_port);
	key.family = flow->family;
	key.port = key.direction ? flow->local_port : flow->remote_port;
	__builtin_memcpy(key.end, key.direction ? flow->local : flow->remote, 16);
	if (flow->family == AF_INET6)
		key.scope = BPF_CORE_READ(tw, __tw_common.skc_bound_dev_if);
	tally(&key, seen & REJECTED, age);
}

#endif
