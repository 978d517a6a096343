/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who opens TCP connections, who closes them first, and what became of them.
 *
 * One program follows every change of state. What it must remember of a connection it forgets when the connection ends;
 * what it counts is counted here, by owner and destination, in maps of fixed size. Which task is
 * running means something only where a system call changes the state: connect(), listen(), close() and shutdown();
 * everything else happens in whatever task a packet interrupts.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "kernel.h"
#include "layout.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

/* The owner of a listening socket, by its cookie. */
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

/*
 * Sockets that have come of a listening one, in a place that their address tells, until their handshake is done: on the
 * next line of the kernel, but for TCP Fast Open. An address may come again, but not without a new note here.
 */
struct child {
	u64 sk;
	u32 owner; /* of the listening socket */
	u32 unused;
};
struct child children[1 << RECENT_BITS];

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
	__sync_fetch_and_add(count, by);
}

/* ---- who ---- */

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *node)
{
	struct kernfs_node___rcu *newer = (void *)node;

	return bpf_core_field_exists(newer->__parent) ? newer->__parent : node->parent;
}

/*
 * The task's control group: of the unified hierarchy; but where there is one of v1 that has all units, of that, since a
 * runtime may make its containers there alone (docker's cgroupfs driver on a hybrid machine).
 */
static __always_inline struct kernfs_node *cgroup_of(struct task_struct *task)
{
	struct css_set *set = task->cgroups;
	struct kernfs_node *node = set->dfl_cgrp->kn, *other;
	struct cgroup_subsys_state *state;
	u64 place;

	if (!settings.pids_tree || !bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id))
		return node;
	place = bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id);
	state = *(struct cgroup_subsys_state **)((void *)&set->subsys + place * sizeof(state));
	if (!state)
		return node;
	other = state->cgroup->kn;
	return parent_of(other) ? other : node;
}

/* Eight bytes at once: each load from the kernel is guarded. */
static __always_inline void copy_command(char *to, struct task_struct *from)
{
	((word *)to)[0] = ((word *)from->comm)[0];
	((word *)to)[1] = ((word *)from->comm)[1];
}

static __noinline int note_cgroup(struct task_struct *task, u64 id)
{
	struct kernfs_node *node;
	struct cgroup_path *path;
	const char *name;
	u32 level;

	if (!task || bpf_map_lookup_elem(&cgroups, &id))
		return 0;
	bpf_map_update_elem(&cgroups, &id, &no_path, BPF_NOEXIST);
	path = bpf_map_lookup_elem(&cgroups, &id);
	if (!path) {
		add(&ledger.losses.groups, 1);
		return 0;
	}
	node = cgroup_of(task);
	for (level = 0; level < LEVELS; level++) {
		struct kernfs_node *parent = parent_of(node);

		/* The root has no name. */
		if (!parent)
			break;
		name = BPF_CORE_READ(node, name);
		bpf_probe_read_kernel_str(path->names[level], NAME, name);
		node = parent;
	}
	path->levels = parent_of(node) ? LEVELS + 1 : level;
	return 0;
}

static __always_inline int is_owner(const struct owner *owner, const struct owner_key *key)
{
	return owner->tgid == key->tgid && owner->uid == key->uid && owner->cgroup == key->cgroup &&
	       same(&owner->command, &key->command);
}

/* The number of the owner with this key; one is made if there is room. 0: there is none. */
static __always_inline u32 number_of(struct owner_key *key, struct task_struct *task)
{
	struct owner owner = {}, *kept;
	u32 *guess = &recent_owners[key->tgid % (1 << RECENT_BITS)];
	u32 number = *guess, *known;

	kept = bpf_map_lookup_elem(&owners, &number);
	if (kept && number && is_owner(kept, key))
		return number;
	known = bpf_map_lookup_elem(&owner_numbers, key);
	if (known) {
		*guess = *known;
		return *known;
	}
	/* The last quarter is for owners that stand for many. */
	if (ledger.owners >= (key->tgid ? settings.owner_limit - settings.owner_limit / 4 : settings.owner_limit))
		return 0;
	number = __sync_fetch_and_add(&ledger.owners, 1);
	kept = bpf_map_lookup_elem(&owners, &number);
	if (!kept)
		return 0;
	/* Filled in before it can be found. */
	owner.cgroup = key->cgroup;
	owner.since = bpf_ktime_get_ns();
	owner.tgid = key->tgid;
	owner.uid = key->uid;
	__builtin_memcpy(owner.command, key->command, COMMAND);
	__builtin_memcpy(kept, &owner, sizeof(owner));
	if (bpf_map_update_elem(&owner_numbers, key, &number, BPF_NOEXIST)) {
		/* Another processor was faster; this number stays unused. */
		kept->since = 0;
		known = bpf_map_lookup_elem(&owner_numbers, key);
		return known ? *known : 0;
	}
	note_cgroup(task, key->cgroup);
	return number;
}

/* The owner that stands for all processes like this one. */
static __noinline u32 merged(u32 number)
{
	struct owner_key key = {};
	struct owner *owner;
	u32 all;

	owner = bpf_map_lookup_elem(&owners, &number);
	if (!owner || !number)
		return 0;
	if (owner->merged)
		return owner->merged;
	key.cgroup = owner->cgroup;
	key.uid = owner->uid;
	__builtin_memcpy(key.command, owner->command, COMMAND);
	all = number_of(&key, NULL);
	owner->merged = all;
	return all;
}

/* The owner that a process is. */
static __always_inline u32 owner_of(struct task_struct *task, u32 uid)
{
	struct owner_key key = {};
	u32 number;

	key.tgid = task->tgid;
	key.uid = uid;
	key.cgroup = cgroup_of(task)->id;
	copy_command(key.command, task->group_leader);
	number = number_of(&key, task);
	if (number)
		return number;
	add(&ledger.losses.owners, 1);
	key.tgid = 0;
	return number_of(&key, task);
}

/* The running process. 0 for a thread of the kernel. */
static __always_inline u32 caller(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (task->flags & PF_KTHREAD)
		return 0;
	return owner_of(task, bpf_get_current_uid_gid());
}

static __always_inline u32 process_of(u32 number)
{
	struct owner *owner = bpf_map_lookup_elem(&owners, &number);

	return owner && number ? owner->tgid : 0;
}

/* ---- what ---- */

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

	return num ? num : bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));
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

	flow->netns = sk->__sk_common.skc_net.net->ns.inum;
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

static __always_inline struct flow *find(const struct flow_key *key)
{
	u32 *guess = guess_of(key), number = *guess, *known;
	struct flow *flow;

	flow = bpf_map_lookup_elem(&flows, &number);
	if (flow && number && same(&flow->key, key))
		return flow;
	known = bpf_map_lookup_elem(&flow_numbers, key);
	if (!known)
		return NULL;
	*guess = *known;
	return bpf_map_lookup_elem(&flows, known);
}

static __always_inline struct flow *make(const struct flow_key *key)
{
	struct flow *flow;
	u32 number;

	if (ledger.flows >= settings.flow_limit)
		return NULL;
	number = __sync_fetch_and_add(&ledger.flows, 1);
	flow = bpf_map_lookup_elem(&flows, &number);
	if (!flow)
		return NULL;
	/* Filled in before it can be found. */
	__builtin_memcpy(&flow->key, key, sizeof(*key));
	if (!bpf_map_update_elem(&flow_numbers, key, &number, BPF_NOEXIST))
		return flow;
	/* Another processor was faster; this number stays unused. */
	flow->key.direction = UNDIRECTED;
	return find(key);
}

/* The counts of a flow; made if there is room, else those of the command, else those of its other destinations. */
static __noinline struct tally *tally_of(struct flow_key *key)
{
	struct flow *found;

	if (!key)
		return NULL;
	found = find(key);
	if (found)
		return &found->tally;
	if (ledger.flows >= settings.flow_limit - settings.flow_limit / 4) {
		add(&ledger.losses.flows, 1);
		key->owner = merged(key->owner);
		found = find(key);
		if (found)
			return &found->tally;
		if (ledger.flows >= settings.flow_limit - settings.flow_limit / 8) {
			key->port = 0;
			key->scope = 0;
			key->family = 0;
			__builtin_memset(key->local, 0, 16);
			__builtin_memset(key->remote, 0, 16);
			found = find(key);
			if (found)
				return &found->tally;
		}
	}
	found = make(key);
	if (!found) {
		add(&ledger.losses.counts, 1);
		return NULL;
	}
	return &found->tally;
}

/* ---- tell ---- */

struct story {
	u64 cookie;
	u64 lived;
	u64 sent;
	u64 received;
	u32 owner;
	u32 error;
	u8 kind;
	u8 pool;
	u8 closed;
	u8 reset;
};

static __noinline int tell(struct story *story, struct place *at)
{
	struct event *event;

	if (!story || !at || !(settings.events & (1 << story->kind)))
		return 0;
	if (settings.tgid && process_of(story->owner) != settings.tgid)
		return 0;
	if (settings.netns && at->flow.netns != settings.netns)
		return 0;
	if (settings.local_port && at->local_port != settings.local_port)
		return 0;
	if (settings.remote_port && at->remote_port != settings.remote_port)
		return 0;
	if (settings.remote_family) {
		if (settings.remote_family != at->flow.family)
			return 0;
		for (int byte = 0; byte < 16; byte++)
			if (settings.remote[byte] != at->remote[byte])
				return 0;
	}
	event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
	if (!event) {
		add(&ledger.losses.events, 1);
		return 0;
	}
	event->at = bpf_ktime_get_ns();
	event->cookie = story->cookie;
	event->lived = story->lived;
	event->sent = story->sent;
	event->received = story->received;
	event->owner = story->owner;
	event->thread = bpf_get_current_pid_tgid();
	event->netns = at->flow.netns;
	event->scope = at->flow.scope;
	event->error = story->error;
	event->local_port = at->local_port;
	event->remote_port = at->remote_port;
	event->kind = story->kind;
	event->family = at->flow.family;
	event->direction = at->flow.direction;
	event->pool = story->pool;
	event->closed = story->closed;
	event->reset = story->reset;
	event->unused[0] = event->unused[1] = 0;
	__builtin_memcpy(event->local, at->flow.local, 16);
	__builtin_memcpy(event->remote, at->remote, 16);
	/* The reader also looks by itself now and then: a wake-up for each event would cost more than the event. */
	bpf_ringbuf_submit(event, bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= settings.wakeup ?
					  BPF_RB_FORCE_WAKEUP :
					  BPF_RB_NO_WAKEUP);
	return 0;
}

/* ---- what is remembered of a connection ---- */

/* The slot for a cookie, whoever has it now. */
static __always_inline struct slot *slot_for(u64 cookie)
{
	u32 place = cookie & (SLOTS - 1);

	return bpf_map_lookup_elem(&slots, &place);
}

static __always_inline u64 cookie_of(const struct sock *sk)
{
	return sk->__sk_common.skc_cookie.counter;
}

static __always_inline struct connection *kept_of(struct sock *sk)
{
	u64 cookie = cookie_of(sk);
	struct slot *slot = slot_for(cookie);

	if (cookie && slot && slot->cookie == cookie)
		return &slot->connection;
	return bpf_sk_storage_get(&connections, sk, NULL, 0);
}

static __always_inline void keep(struct sock *sk, struct connection *fresh)
{
	u64 cookie = bpf_get_socket_cookie(sk);
	struct slot *slot = slot_for(cookie);
	struct connection *kept;

	/* Changes of one socket follow each other, so that nobody else takes or frees a slot in its name. */
	if (slot && (slot->cookie == cookie || !__sync_val_compare_and_swap(&slot->cookie, 0, cookie))) {
		slot->connection = *fresh;
		return;
	}
	kept = bpf_sk_storage_get(&connections, sk, fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = *fresh; /* a socket may connect again */
	else
		add(&ledger.losses.sockets, 1);
}

/* The connection has ended. What is kept with the socket goes with the socket. */
static __always_inline void forget(const struct sock *sk)
{
	u64 cookie = cookie_of(sk);
	struct slot *slot = slot_for(cookie);

	/* An exchange, not a store: nothing that is done with the slot before may come after. */
	if (cookie && slot && slot->cookie == cookie)
		__sync_lock_test_and_set(&slot->cookie, 0);
}

/* Read with a helper it is a number to the verifier, which lets nobody reckon with a pointer. */
static __always_inline u64 address_of(const struct sock *sk)
{
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return address;
}

static __always_inline struct child *child_at(u64 address)
{
	return &children[address * 0x9e3779b97f4a7c15 >> (64 - RECENT_BITS)];
}

/* ---- the life of a connection ---- */

/* connect() begins: in the caller's context. */
static __always_inline int begin(struct sock *sk)
{
	struct connection fresh = {};
	struct place at = {};
	struct tally *tally;
	u32 owner = caller();
	u16 num = sk->__sk_common.skc_num;

	fresh.begun = bpf_ktime_get_ns();
	fresh.owner = owner;
	fresh.direction = OUTGOING;
	fresh.port = local_port(sk);
	if (!num)
		fresh.pool = BY_CONNECT;
	else if (BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_BINDPORT_LOCK)
		fresh.pool = BY_THE_PROGRAM;
	else
		fresh.pool = BY_BIND;
	keep(sk, &fresh);
	locate(sk, OUTGOING, &at);
	at.flow.owner = owner;
	tally = tally_of(&at.flow);
	if (tally) {
		add(&tally->connects, 1);
		if (fresh.pool == BY_BIND)
			add(&tally->bound, 1);
		else if (fresh.pool == BY_THE_PROGRAM)
			add(&tally->fixed, 1);
	}
	if (settings.events & (1 << CONNECT)) {
		struct story story = { .kind = CONNECT, .owner = owner, .pool = fresh.pool };

		if (!num)
			at.local_port = 0; /* of an earlier connection of this socket */
		story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

/*
 * Whether connect() itself failed, for want of a port or of the very tuple: no SYN was sent, and no port was taken. A
 * connect() with TCP_FASTOPEN_CONNECT sends nothing either until the first write, but has its port; close() ends that
 * one, and marks the socket before it does.
 */
static __always_inline int found_no_port(struct sock *sk, const struct connection *kept)
{
	if (sk->sk_err || sk->sk_shutdown || BPF_CORE_READ((struct tcp_sock *)sk, segs_out))
		return 0;
	return kept->pool != BY_CONNECT || local_port(sk) == kept->port;
}

/* connect() ends without a connection. */
static __always_inline int fail(struct sock *sk)
{
	struct connection *kept = kept_of(sk);
	struct story story = { .kind = FAILED };
	struct place at = {};
	struct tally *tally;

	/* It began before the tracing did, or it came in and was not established yet. */
	if (!kept || kept->direction != OUTGOING)
		return 0;
	story.owner = kept->owner;
	story.pool = kept->pool;
	story.error = sk->sk_err;
	locate(sk, OUTGOING, &at);
	at.flow.owner = kept->owner;
	if (found_no_port(sk, kept)) {
		story.kind = REFUSED;
		story.error = EADDRNOTAVAIL;
	}
	tally = tally_of(&at.flow);
	if (tally) {
		if (story.kind == REFUSED)
			add(&tally->no_port, 1);
		else if (story.error == ECONNREFUSED)
			add(&tally->refused, 1);
		else if (story.error == ETIMEDOUT)
			add(&tally->unanswered, 1);
		else
			add(&tally->failed, 1);
	}
	if (settings.events & (1 << story.kind)) {
		if (story.kind == REFUSED && story.pool == BY_CONNECT)
			at.local_port = 0;
		story.lived = bpf_ktime_get_ns() - kept->begun;
		story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

static __always_inline int established(struct sock *sk)
{
	struct story story = { .kind = ESTABLISHED };
	struct place at = {};
	struct connection *kept;

	if (!(settings.events & (1 << ESTABLISHED)))
		return 0;
	kept = kept_of(sk);
	if (!kept)
		return 0;
	story.owner = kept->owner;
	story.pool = kept->pool;
	story.lived = bpf_ktime_get_ns() - kept->begun;
	story.cookie = bpf_get_socket_cookie(sk);
	locate(sk, OUTGOING, &at);
	return tell(&story, &at);
}

static __always_inline void note_listening(struct sock *sk, u32 owner)
{
	struct listening_key key = {};
	u64 cookie = bpf_get_socket_cookie(sk);
	int failed;

	key.netns = sk->__sk_common.skc_net.net->ns.inum;
	key.port = sk->__sk_common.skc_num;
	failed = bpf_map_update_elem(&listening, &key, &owner, BPF_ANY) != 0;
	failed |= bpf_map_update_elem(&listeners, &cookie, &owner, BPF_ANY) != 0;
	if (failed)
		add(&ledger.losses.listening, 1);
}

/* listen(): in the caller's context. */
static __always_inline int listens(struct sock *sk)
{
	note_listening(sk, caller());
	return 0;
}

static __always_inline int listens_no_more(const struct sock *sk)
{
	u64 cookie = cookie_of(sk);

	bpf_map_delete_elem(&listeners, &cookie);
	return 0;
}

/*
 * A socket has come of a listening one. It is a copy of that as yet, with the cookie as well; its own it gets a few lines
 * further on (net/ipv4/inet_connection_sock.c inet_csk_clone_lock()). Of several processes that listen on one port, each
 * with a socket of its own, this tells whose it is.
 */
static __always_inline int comes_in(const struct sock *sk)
{
	u64 address = address_of(sk), cookie = cookie_of(sk);
	struct child *child = child_at(address);
	u32 *owner = bpf_map_lookup_elem(&listeners, &cookie);

	child->sk = 0;
	barrier();
	if (!owner)
		return 0;
	child->owner = *owner;
	barrier();
	child->sk = address;
	return 0;
}

/* The owner of what listens on the socket's port, where listen() was called before the tracing began. */
static __always_inline u32 *listener_of(const struct sock *sk)
{
	struct listening_key key = {};

	key.netns = sk->__sk_common.skc_net.net->ns.inum;
	key.port = local_port(sk);
	return bpf_map_lookup_elem(&listening, &key);
}

/* An incoming connection is there; in whatever context the last packet of the handshake came. */
static __always_inline int accepted(struct sock *sk)
{
	struct connection fresh = { .direction = INCOMING }, *kept = kept_of(sk);
	struct place at = {};
	struct tally *tally;
	struct child *child;
	u64 address;

	if (kept && kept->direction == OUTGOING)
		return established(sk); /* both sides called connect() */
	fresh.begun = bpf_ktime_get_ns();
	address = address_of(sk);
	child = child_at(address);
	if (child->sk == address) {
		fresh.owner = child->owner;
	} else {
		u32 *owner = listener_of(sk);

		if (owner)
			fresh.owner = *owner;
	}
	keep(sk, &fresh);
	locate(sk, INCOMING, &at);
	at.flow.owner = fresh.owner;
	tally = tally_of(&at.flow);
	if (tally)
		add(&tally->accepts, 1);
	if (settings.events & (1 << ACCEPT)) {
		struct story story = { .kind = ACCEPT, .owner = fresh.owner };

		story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

/* What is known of the socket; where its begin was not seen, its direction by whether something listens on its port. */
static __always_inline struct connection known(struct sock *sk, const struct connection *kept)
{
	struct connection found = {};
	u32 *owner;

	if (kept)
		return *kept;
	owner = listener_of(sk);
	found.direction = owner ? INCOMING : OUTGOING;
	found.owner = owner ? *owner : 0;
	return found;
}

/* Bytes received until now; the kernel counts the peer's FIN as one, whichever state it came in. */
static __always_inline u64 received(const struct sock *sk, const struct tcp_sock *tcp)
{
	u64 done = sk->__sk_common.skc_flags >> bpf_core_enum_value(enum sock_flags, SOCK_DONE) & 1;

	return tcp->bytes_received - (tcp->bytes_received ? done : 0);
}

static __always_inline void weigh(struct sock *sk, u8 direction, struct story *story)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (!tcp)
		return;
	/* What is not acknowledged yet counts as sent; the SYN does not, though bytes_acked has it on the side that connects. */
	story->sent = tcp->bytes_acked + (u32)(tcp->write_seq - tcp->snd_una);
	if (direction == OUTGOING && story->sent)
		story->sent--;
	story->received = received(sk, tcp);
}

/* FIN is about to be sent: in the context of close(), shutdown() or exit(). */
static __always_inline int closes(struct sock *sk, u8 first, int called)
{
	struct connection *kept = kept_of(sk), found = known(sk, kept);
	struct story story = { .kind = CLOSE };
	struct place at = {};
	struct tally *tally;
	u32 closer = 0;

	/*
	 * Threads of the kernel also close: the descriptor's last holder has gone before. And where shutdown() came while
	 * the handshake was not done, FIN is sent by the packet that ends it; no system call holds the socket then.
	 */
	if (called)
		closer = caller();
	if (!closer)
		closer = found.owner;
	if (!found.owner)
		found.owner = closer;
	found.closed = first;
	/* An incoming connection is the closer's: which of the processes that listen took it is not seen before. */
	if (found.direction == INCOMING)
		found.owner = closer;
	found.closer = closer;
	story.owner = closer;
	story.pool = found.pool;
	story.closed = first;
	weigh(sk, found.direction, &story);
	if (found.begun)
		story.lived = bpf_ktime_get_ns() - found.begun;
	locate(sk, found.direction, &at);
	at.flow.owner = closer;
	tally = tally_of(&at.flow);
	if (tally) {
		add(first == HERE ? &tally->closed_here : &tally->closed_there, 1);
		add(&tally->sent, story.sent);
		add(&tally->received, story.received);
		if (found.begun) {
			add(&tally->lived, story.lived);
			add(&tally->aged, 1);
		}
	}
	if (first == HERE) {
		found.received = story.received;
		/* The socket in TIME_WAIT inherits the cookie only if there is one by now. */
		story.cookie = bpf_get_socket_cookie(sk);
		if (kept)
			*kept = found;
		else
			keep(sk, &found);
	}
	if (settings.events & (1 << CLOSE)) {
		if (first != HERE)
			story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

/* An open connection ends at once. */
static __always_inline int cut(struct sock *sk, int called)
{
	struct connection found = known(sk, kept_of(sk));
	struct story story = { .kind = CLOSE };
	struct place at = {};
	struct tally *tally;

	story.error = sk->sk_err;
	story.owner = found.owner;
	/*
	 * Without an error it was this side's wish: close() with unread data or SO_LINGER 0, in the caller's context; or
	 * close() of a listener whose connections nobody had accepted: those are the listener's.
	 */
	if (!story.error && called) {
		u32 owner = caller();

		if (owner)
			story.owner = owner;
	}
	story.pool = found.pool;
	story.reset = story.error ? 2 : 1;
	weigh(sk, found.direction, &story);
	if (found.begun)
		story.lived = bpf_ktime_get_ns() - found.begun;
	locate(sk, found.direction, &at);
	at.flow.owner = story.owner;
	tally = tally_of(&at.flow);
	if (tally) {
		add(story.error ? &tally->aborted_there : &tally->aborted_here, 1);
		add(&tally->sent, story.sent);
		add(&tally->received, story.received);
		if (found.begun) {
			add(&tally->lived, story.lived);
			add(&tally->aged, 1);
		}
	}
	if (settings.events & (1 << CLOSE)) {
		story.cookie = bpf_get_socket_cookie(sk);
		tell(&story, &at);
	}
	return 0;
}

static __always_inline int peer_closed(struct sock *sk)
{
	struct connection found;
	struct story story = { .kind = PEER_CLOSED, .closed = THERE };
	struct place at = {};

	if (!(settings.events & (1 << PEER_CLOSED)))
		return 0;
	found = known(sk, kept_of(sk));
	story.owner = found.owner;
	story.pool = found.pool;
	if (found.begun)
		story.lived = bpf_ktime_get_ns() - found.begun;
	story.cookie = bpf_get_socket_cookie(sk);
	locate(sk, found.direction, &at);
	return tell(&story, &at);
}

/* Nodes of a hash chain that are looked at: the table has at least twice as many chains as there may be TIME_WAIT. */
#define CHAIN 32

/*
 * Whether a small socket has taken the place of this one in the table of connections. Only looking tells: FIN_WAIT2 and
 * CLOSING also end without one, and without any error that could be seen now, by SO_LINGER 0, TCP_LINGER2 below 0, data
 * that nobody read, too many orphans, tcp_max_tw_buckets. The small one has the cookie, if the full one had it by then.
 */
static __always_inline int left_behind(struct sock *sk, u64 cookie)
{
	struct inet_hashinfo *table = sk->__sk_common.skc_net.net->ipv4.tcp_death_row.hashinfo;
	/* Read with a helper it is a number to the verifier, which lets nobody reckon with a pointer. */
	struct inet_ehash_bucket *chain = BPF_CORE_READ(table, ehash);
	u64 slot = sk->__sk_common.skc_hash & table->ehash_mask;
	struct hlist_nulls_node *node;
	u32 step;

	chain = (void *)chain + slot * bpf_core_type_size(struct inet_ehash_bucket);
	node = BPF_CORE_READ(chain, chain.first);
	for (step = 0; step < CHAIN; step++) {
		struct sock_common *other;

		/* The end of a chain is marked by an odd number. */
		if (!node || (u64)node & 1)
			return 0;
		other = (void *)node - bpf_core_field_offset(struct sock_common, skc_nulls_node);
		if (BPF_CORE_READ(other, skc_cookie.counter) == cookie &&
		    BPF_CORE_READ(other, skc_state) == TCP_TIME_WAIT)
			return 1;
		node = BPF_CORE_READ(node, next);
	}
	/* Too long to look through; most of those that get here leave one. */
	return 1;
}

/* What came after this side's FIN: it is counted where the rest of the connection is. */
static __always_inline void came_later(struct sock *sk, const struct connection *kept)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct place at = {};
	struct tally *tally;
	u64 all;

	if (!tcp)
		return;
	all = received(sk, tcp);
	if (all <= kept->received)
		return;
	locate(sk, kept->direction, &at);
	at.flow.owner = kept->closer;
	tally = tally_of(&at.flow);
	if (tally)
		add(&tally->received, all - kept->received);
}

/* Notes whose a socket in TIME_WAIT was. */
static __always_inline void note_waiting(u64 cookie, const struct connection *kept)
{
	u32 place = cookie & (settings.waiting - 1), now = bpf_ktime_get_ns() / NSEC_PER_SEC;
	struct waiting *note;

	note = bpf_map_lookup_elem(&waiting, &place);
	if (!note)
		return;
	if (note->cookie && now - note->since < TIMEWAIT_SECONDS)
		add(&ledger.losses.waiting, 1);
	note->cookie = 0; /* who reads it now sees no half of it */
	barrier();
	note->owner = kept->owner;
	note->closer = kept->closer;
	note->since = now;
	note->direction = kept->direction;
	note->pool = kept->pool;
	barrier();
	note->cookie = cookie;
}

/*
 * A socket that was closed here first goes. What is left of it may be a small one in TIME_WAIT, or in FIN_WAIT2 until the
 * peer's FIN comes.
 */
static __always_inline int ends(struct sock *sk, int from)
{
	struct connection *kept = kept_of(sk);
	struct place at = {};
	struct tally *tally;
	u64 cookie;

	if (!kept || kept->closed != HERE)
		return 0;
	came_later(sk, kept);
	/* An error: killed by RST, SOCK_DESTROY or a timer. */
	if (from == TCP_FIN_WAIT1 || sk->sk_err)
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	if (!left_behind(sk, cookie))
		return 0;
	if (settings.waiting)
		note_waiting(cookie, kept);
	locate(sk, kept->direction, &at);
	at.flow.owner = kept->owner;
	tally = tally_of(&at.flow);
	if (tally)
		add(&tally->time_wait, 1);
	if (settings.events & (1 << TIME_WAIT)) {
		struct story story = { .kind = TIME_WAIT, .closed = HERE };

		story.owner = kept->owner;
		story.pool = kept->pool;
		story.cookie = cookie;
		if (kept->begun)
			story.lived = bpf_ktime_get_ns() - kept->begun;
		tell(&story, &at);
	}
	return 0;
}

static __always_inline int gone(struct sock *sk, int from, int called)
{
	switch (from) {
	case TCP_SYN_SENT:
	case TCP_SYN_RECV: /* both sides had called connect() */
		return fail(sk);
	case TCP_FIN_WAIT1:
	case TCP_FIN_WAIT2:
	case TCP_CLOSING:
		return ends(sk, from);
	case TCP_ESTABLISHED:
	case TCP_CLOSE_WAIT:
		return cut(sk, called);
	case TCP_LISTEN:
		return listens_no_more(sk);
	}
	return 0;
}

static __always_inline int change(struct sock *sk, int from, int to, int called)
{
	/* Tells nothing. Nor does close() after shutdown(), before the peer has acknowledged: FIN_WAIT1 to FIN_WAIT1. */
	if (to == TCP_FIN_WAIT2 || from == to)
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	switch (to) {
	case TCP_SYN_SENT:
		return called ? begin(sk) : 0;
	case TCP_SYN_RECV:
		return from == TCP_LISTEN ? comes_in(sk) : 0;
	case TCP_ESTABLISHED:
		return from == TCP_SYN_SENT ? established(sk) : accepted(sk);
	case TCP_LISTEN:
		return called ? listens(sk) : 0;
	case TCP_FIN_WAIT1:
		/* With TCP Fast Open a connection is accepted, and may be closed, before its handshake ends. */
		if (from == TCP_SYN_RECV)
			accepted(sk);
		return closes(sk, HERE, called);
	case TCP_LAST_ACK:
		return closes(sk, THERE, called);
	case TCP_CLOSE_WAIT:
		return peer_closed(sk);
	case TCP_CLOSE:
		gone(sk, from, called);
		forget(sk);
	}
	return 0;
}

/*
 * The change that the first program has taken last on this processor, of those outside of system calls. They do not
 * interrupt each other, so that there is one at a time.
 */
struct taken {
	u64 sk;
	u32 from;
	u32 to;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct taken);
} taken SEC(".maps");

/*
 * A program does not run while it runs already on the same processor: the kernel leaves the inner run out, and with it all
 * that comes in the same burst of packets (kernel/trace/bpf_trace.c __bpf_trace_run()). Packets and timers interrupt system
 * calls, right here too. So there are two programs, one after the other, and a change outside of a system call is left to
 * whichever of them is not interrupted: the first takes what it sees, the second what the first did not. A socket that a
 * system call works on is marked as owned, and packets for it wait until it is not (lock_sock()).
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(first, struct sock *sk, int from, int to)
{
	int called = !!sk->sk_lock.owned;
	struct taken *last;
	u32 zero = 0;

	if (!called) {
		last = bpf_map_lookup_elem(&taken, &zero);
		if (!last)
			return 0;
		last->sk = (u64)sk;
		last->from = from;
		last->to = to;
	}
	return change(sk, from, to, called);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(second, struct sock *sk, int from, int to)
{
	struct taken *last;
	u32 zero = 0;

	if (sk->sk_lock.owned)
		return 0;
	last = bpf_map_lookup_elem(&taken, &zero);
	if (!last)
		return 0;
	if (last->sk == (u64)sk && last->from == from && last->to == to) {
		last->sk = 0;
		return 0;
	}
	return change(sk, from, to, 0);
}

/* Never called and never loaded: it brings into the type information what the test of the layout looks for. */
int types(struct event *event, enum kind kind)
{
	return event ? kind : 0;
}

#include "existing.h"
#include "binds.h"
