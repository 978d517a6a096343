/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Events for the reader, one by one. */
#ifndef TIDEWAIT_TRACE_TELL_H
#define TIDEWAIT_TRACE_TELL_H

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

/* Not static: the verifier then looks through it once, not at each call. */
__noinline int tell(struct story *story, struct place *at)
{
	struct event *event;

	if (!story || !at || !(settings.events & (1 << story->kind)))
		return 0;
	if (settings.tgid && process_of(story->owner) != settings.tgid)
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

#endif
