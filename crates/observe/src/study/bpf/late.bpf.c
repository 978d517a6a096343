/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Segments that arrive for sockets in TIME_WAIT: what they are and how old the TIME_WAIT is, counted by destination.
 *
 * Two ways to see them, of which one is loaded. `answered` sits at the entry of the kernel's function that answers such
 * segments (fentry) and so costs other traffic nothing. `arriving` looks up every TCP segment that comes in at an interface
 * (tc), where fentry is refused. Nothing is held back, changed or answered by either.
 */
#include "kernel.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "layout.h"
#include "maps.h"
#include "segment.h"
#include "open.h"
#include "judge.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("fentry/tcp_timewait_state_process")
int BPF_PROG(answered, struct inet_timewait_sock *tw, struct sk_buff *skb, const void *header)
{
	/* Later arguments differ between versions and are not touched. */
	struct segment segment = {};
	struct flow flow = {};

	read_flow(tw, &flow);
	if ((settings.netns && flow.netns != settings.netns) || !wanted(&flow))
		return 0;
	if (bpf_probe_read_kernel(&segment.header, sizeof(segment.header), header)) {
		count(UNREAD);
		return 0;
	}
	segment.total = BPF_CORE_READ(skb, len); /* it begins with the TCP header here */
	/* What lies behind the options is in the buffer too, and not looked at. */
	if (bpf_probe_read_kernel(segment.options, sizeof(segment.options), header + sizeof(segment.header)))
		segment.total = 0; /* tells that it cannot be read */
	judge(tw, &flow, &segment);
	return 0;
}

/*
 * Where the TCP header is, after the network header; 0 if there is none that can be looked at. Addresses and the header's
 * fixed part come with it: one read does for most packets, and what is shorter than that is not TCP.
 */
static __always_inline u32 find_tcp4(struct __sk_buff *skb, struct flow *flow, union tcp_header *header, u32 *end)
{
	struct {
		struct ipv4 ip;
		union tcp_header tcp;
	} first;
	u32 at;

	if (bpf_skb_load_bytes_relative(skb, 0, &first, sizeof(first), BPF_HDR_START_NET))
		return 0;
	if (first.ip.protocol != IPPROTO_TCP)
		return 0;
	if (first.ip.fragment & bpf_htons(0x3fff)) {
		count(FRAGMENTS);
		return 0;
	}
	flow->family = AF_INET;
	*(u32 *)flow->remote = first.ip.source;
	*(u32 *)flow->local = first.ip.destination;
	*end = bpf_ntohs(first.ip.length);
	at = (first.ip.version_and_length & 15) * 4;
	*header = first.tcp;
	if (at != sizeof(first.ip) && bpf_skb_load_bytes_relative(skb, at, header, sizeof(*header), BPF_HDR_START_NET)) {
		count(UNREAD);
		return 0;
	}
	return at;
}

static __always_inline u32 find_tcp6(struct __sk_buff *skb, struct flow *flow, union tcp_header *header, u32 *end)
{
	struct {
		struct ipv6 ip;
		union tcp_header tcp;
	} first;
	u32 at = sizeof(first.ip);
	u8 next;
	int i;

	if (bpf_skb_load_bytes_relative(skb, 0, &first, sizeof(first), BPF_HDR_START_NET))
		return 0;
	next = first.ip.next;
	flow->family = AF_INET6;
	__builtin_memcpy(flow->remote, first.ip.source, 16);
	__builtin_memcpy(flow->local, first.ip.destination, 16);
	*end = at + bpf_ntohs(first.ip.length);
	*header = first.tcp;
	for (i = 0; i < 6 && next != IPPROTO_TCP; i++) {
		struct {
			u8 next;
			u8 length;
		} extension;

		if (next == IPPROTO_FRAGMENT) {
			count(FRAGMENTS);
			return 0;
		}
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && next != IPPROTO_AH)
			return 0;
		if (bpf_skb_load_bytes_relative(skb, at, &extension, sizeof(extension), BPF_HDR_START_NET))
			return 0;
		at += next == IPPROTO_AH ? (extension.length + 2) * 4 : (extension.length + 1) * 8;
		next = extension.next;
	}
	if (next != IPPROTO_TCP)
		return 0;
	if (at != sizeof(first.ip) && bpf_skb_load_bytes_relative(skb, at, header, sizeof(*header), BPF_HDR_START_NET)) {
		count(UNREAD);
		return 0;
	}
	return at;
}

static __always_inline int load_options(struct __sk_buff *skb, u32 at, struct segment *segment)
{
	u32 length = options_length(segment);

	__builtin_memset(segment->options, 0, sizeof(segment->options));
	if (!length)
		return 0;
	/* So that the verifier sees both bounds; the length is 40 at most. */
	forget(length);
	length = ((length - 1) & (sizeof(segment->options) - 1)) + 1;
	return bpf_skb_load_bytes_relative(skb, at + sizeof(segment->header), segment->options, length, BPF_HDR_START_NET);
}

SEC("tcx/ingress")
int arriving(struct __sk_buff *skb)
{
	struct tcp_timewait_sock *waiting = NULL;
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *found;
	struct flow flow = {};
	struct segment segment;
	u64 sign, *place;
	u32 at, end = 0;
	int changes;

	/* What is not for this machine, or will come again without its VLAN tag. */
	if (skb->pkt_type != 0 || (skb->vlan_present && (skb->vlan_tci & 0xfff)))
		return TCX_NEXT;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		at = find_tcp4(skb, &flow, &segment.header, &end);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		at = find_tcp6(skb, &flow, &segment.header, &end);
	else
		return TCX_NEXT;
	if (at == 0)
		return TCX_NEXT;
	flow.remote_port = bpf_ntohs(segment.header.ports[0]);
	flow.local_port = bpf_ntohs(segment.header.ports[1]);
	flow.netns = settings.netns;
	if (narrowed() && !wanted(&flow))
		return TCX_NEXT;
	count(LOOKED_AT);
	changes = segment.header.bytes[13] & (FIN | SYN | RST);
	sign = sign_of(&flow, skb->ifindex);
	place = place_of(sign);
	if (*place == sign) {
		if (!changes)
			return TCX_NEXT;
		*place = 0;
	}
	if (flow.family == AF_INET) {
		tuple.ipv4.saddr = *(u32 *)flow.remote;
		tuple.ipv4.daddr = *(u32 *)flow.local;
		tuple.ipv4.sport = segment.header.ports[0];
		tuple.ipv4.dport = segment.header.ports[1];
		found = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, flow.remote, 16);
		__builtin_memcpy(tuple.ipv6.daddr, flow.local, 16);
		tuple.ipv6.sport = segment.header.ports[0];
		tuple.ipv6.dport = segment.header.ports[1];
		found = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!found)
		return TCX_NEXT;
	if (found->state == TCP_TIME_WAIT)
		waiting = bpf_skc_to_tcp_timewait_sock(found);
	else if (found->state == TCP_ESTABLISHED && !changes)
		*place = sign;
	if (waiting) {
		/* Ethernet pads what is short; a packet of more than 64 KiB has no length of its own. */
		segment.total = end > at ? end - at : (skb->len > at ? skb->len - at : 0);
		if (load_options(skb, at, &segment))
			segment.total = 0;
		judge((struct inet_timewait_sock *)waiting, &flow, &segment);
	}
	bpf_sk_release(found);
	return TCX_NEXT;
}

/* Reads both clocks of the kernel; run by hand. */
SEC("tc")
int clock(struct __sk_buff *skb)
{
	live.jiffies = bpf_jiffies64();
	live.nanoseconds = bpf_ktime_get_ns();
	return 0;
}
