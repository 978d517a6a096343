/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where a connection goes, and the row that it is counted in. */
#ifndef TIDEWAIT_TRACE_WHERE_H
#define TIDEWAIT_TRACE_WHERE_H

/* IPv4-mapped connections are IPv4: they share its tuples. */
static __always_inline int is_v4(const struct sock *sk)
{
	const struct in6_addr *to = &sk->__sk_common.skc_v6_daddr;

	if (sk->__sk_common.skc_family == AF_INET)
		return 1;
	return to->in6_u.u6_addr32[0] == 0 && to->in6_u.u6_addr32[1] == 0 &&
	       to->in6_u.u6_addr32[2] == bpf_htonl(0xffff);
}

static __always_inline void copy_address(u8 *to, const struct in6_addr *from)
{
	u32 *words = (u32 *)to;

	words[0] = from->in6_u.u6_addr32[0];
	words[1] = from->in6_u.u6_addr32[1];
	words[2] = from->in6_u.u6_addr32[2];
	words[3] = from->in6_u.u6_addr32[3];
}

/* The local port; when the state becomes CLOSE, the number that connect() chose is given back before this is told. */
static __always_inline u16 local_port(const struct sock *sk)
{
	u16 num = sk->__sk_common.skc_num;
	struct inet_sock *inet;

	if (num)
		return num;
	inet = (struct inet_sock *)bpf_skc_to_tcp_sock((void *)sk);
	return inet ? bpf_ntohs(inet->inet_sport) : 0;
}

/*
 * The network namespace of a TCP socket, by what a helper returns and not by the program's argument. Since 6.3 the verifier goes
 * through the names of all types of the kernel for each pointer that is read from one that it trusts, on each path
 * (kernel/bpf/verifier.c check_ptr_to_btf_access()): most of the time until the tracing began. What the helper returns it does
 * not trust.
 */
static __always_inline struct net *net_of(const struct sock *sk)
{
	struct sock *tcp = (struct sock *)bpf_skc_to_tcp_sock((void *)sk);

	return tcp ? tcp->__sk_common.skc_net.net : NULL;
}

/* Its number. */
static __always_inline u32 netns_of(const struct sock *sk)
{
	struct net *net = net_of(sk);

	return net ? net->ns.inum : 0;
}

struct place {
	struct flow_key flow; /* without the owner */
	u16 local_port;
	u16 remote_port;
	u8 remote[16];
};

static __always_inline void locate(const struct sock *sk, u8 direction, struct place *at)
{
	struct flow_key *flow = &at->flow;

	flow->netns = netns_of(sk);
	flow->direction = direction;
	at->local_port = local_port(sk);
	at->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (is_v4(sk)) {
		flow->family = AF_INET;
		*(u32 *)flow->local = sk->__sk_common.skc_rcv_saddr;
		*(u32 *)at->remote = sk->__sk_common.skc_daddr;
	} else {
		flow->family = AF_INET6;
		copy_address(flow->local, &sk->__sk_common.skc_v6_rcv_saddr);
		copy_address(at->remote, &sk->__sk_common.skc_v6_daddr);
		/* fe80::/10 */
		if ((at->remote[0] == 0xfe && (at->remote[1] & 0xc0) == 0x80) ||
		    (flow->local[0] == 0xfe && (flow->local[1] & 0xc0) == 0x80))
			flow->scope = sk->__sk_common.skc_bound_dev_if;
	}
	if (direction == OUTGOING) {
		flow->port = at->remote_port;
		__builtin_memcpy(flow->remote, at->remote, 16);
	} else {
		flow->port = at->local_port;
	}
}

static __always_inline u32 *guess_of(const struct flow_key *key)
{
	const word *words = (const void *)key;
	u64 mixed = 0;

	for (int word = 0; word < sizeof(*key) / sizeof(*words); word++)
		mixed = (mixed + words[word]) * 0x9e3779b97f4a7c15; /* 2^64 / golden ratio: the upper bits mix best */
	return &recent_flows[mixed >> (64 - RECENT_BITS)];
}

/* The number of the flow with this key; 0: there is none. */
static __always_inline u32 find(const struct flow_key *key)
{
	u32 *guess = guess_of(key), number = *guess, *known;
	struct flow *flow;

	flow = bpf_map_lookup_elem(&flows, &number);
	if (flow && number && same(&flow->key, key))
		return number;
	known = bpf_map_lookup_elem(&flow_numbers, key);
	if (!known)
		return 0;
	*guess = *known;
	return *known;
}

static __always_inline u32 make(const struct flow_key *key)
{
	struct flow *flow;
	u32 number;

	if (ledger.flows >= settings.flow_limit)
		return 0;
	number = __sync_fetch_and_add(&ledger.flows, 1);
	flow = bpf_map_lookup_elem(&flows, &number);
	if (!flow)
		return 0;
	/* Filled in before it can be found. */
	__builtin_memcpy(&flow->key, key, sizeof(*key));
	if (!bpf_map_update_elem(&flow_numbers, key, &number, BPF_NOEXIST))
		return number;
	/* Another processor was faster; this number stays unused. */
	flow->key.direction = UNDIRECTED;
	return find(key);
}

/* Marks the number of a row that stands for many flows. */
#define MANY (1U << 31)

/*
 * The number of a flow's row; made if there is room, else that of a row for many, of the command or of its other
 * destinations. 0: there is none. Not static: the verifier then looks through it once, not at each call.
 */
__noinline u32 row_of(const struct flow_key *flow)
{
	struct flow_key key; /* before 6.2 a map takes none that was passed here */
	u32 found, many = 0;

	if (!flow)
		return 0;
	__builtin_memcpy(&key, flow, sizeof(key));
	found = find(&key);
	if (found)
		return found;
	if (ledger.flows >= settings.flow_limit - settings.flow_limit / 4) {
		many = MANY;
		add(&ledger.losses.flows, 1);
		key.owner = merged(key.owner);
		found = find(&key);
		if (!found && ledger.flows >= settings.flow_limit - settings.flow_limit / 8) {
			key.port = 0;
			key.scope = 0;
			key.family = 0;
			__builtin_memset(key.local, 0, 16);
			__builtin_memset(key.remote, 0, 16);
			found = find(&key);
		}
	}
	if (!found)
		found = make(&key);
	if (!found)
		add(&ledger.losses.counts, 1);
	return found | many;
}

static __always_inline struct tally *tally_at(u32 row)
{
	struct flow *flow;

	row &= ~MANY;
	flow = bpf_map_lookup_elem(&flows, &row);
	return flow && row ? &flow->tally : NULL;
}

/*
 * The counts of a connection for `owner`. For the connection's own the row is remembered, and then neither the place nor the
 * row needs to be looked for. A row that stands for many is not remembered: each time that it is counted there counts as a loss.
 */
static __always_inline struct tally *tally_for(const struct sock *sk, struct connection *of, u32 owner,
					       struct place *at)
{
	u32 own = owner == of->owner, row = own ? of->row : 0;

	/* Who is told of it is told where. */
	if (!row || settings.events)
		locate(sk, of->direction, at);
	if (!row) {
		at->flow.owner = owner;
		row = row_of(&at->flow);
		if (own && !(row & MANY))
			of->row = row;
	}
	return tally_at(row);
}

static __always_inline struct tally *tally_of(const struct sock *sk, struct connection *of, struct place *at)
{
	return tally_for(sk, of, of->owner, at);
}

#endif
