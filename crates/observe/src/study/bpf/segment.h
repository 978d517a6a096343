/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A segment, and the connection that it is for. */
#ifndef TIDEWAIT_STUDY_SEGMENT_H
#define TIDEWAIT_STUDY_SEGMENT_H

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10

struct ipv4 {
	u8 version_and_length;
	u8 tos;
	u16 length;
	u16 id;
	u16 fragment;
	u8 ttl;
	u8 protocol;
	u16 checksum;
	u32 source;
	u32 destination;
};

struct ipv6 {
	u32 flow;
	u16 length;
	u8 next;
	u8 hops;
	u8 source[16];
	u8 destination[16];
};

/* The fixed part of a TCP header, RFC 9293 3.1. */
union tcp_header {
	u16 ports[2];
	u32 words[5]; /* ports, sequence, acknowledgement, then length, flags, window */
	u8 bytes[20];
};

struct segment {
	union tcp_header header;
	u32 total; /* bytes, header and all */
	u8 options[64]; /* 40 at most, and room for the verifier */
};

struct flow {
	u8 local[16];
	u8 remote[16];
	u16 local_port;
	u16 remote_port;
	u32 netns;
	u8 family;
};

static __always_inline u32 header_length(const struct segment *segment)
{
	return (segment->header.bytes[12] >> 4) * 4;
}

/* Bytes of options, at most 40; 0 where the header is too short for any. */
static __always_inline u32 options_length(const struct segment *segment)
{
	u32 length = header_length(segment);

	return length > 20 ? (length - 20) & 63 : 0;
}

/* Makes the compiler forget what it knows of a number, so that it leaves out nothing that the verifier has to see. */
#define forget(number) asm volatile("" : "+r"(number))

/*
 * The timestamp that the segment was sent with (RFC 7323) in the lower half, and a bit above it; 0 if there is none.
 *
 * A function that the verifier looks at by itself, as those below: inlined, its paths would multiply with all others.
 */
__noinline u64 timestamp(const struct segment *segment)
{
	u32 length, skip = 0;
	int i;

	if (!segment)
		return 0;
	length = options_length(segment);
	/* Byte by byte, at places that are known beforehand: wherever an option may begin, the verifier looks there once. */
#pragma unroll
	for (i = 0; i <= 30; i++) {
		const u8 *option = segment->options + i;

		if (i + 10 > length)
			return 0;
		if (skip > 0) {
			skip--;
			continue;
		}
		if (option[0] == 1)
			continue;
		if (option[0] == 0 || option[1] < 2)
			return 0;
		if (option[0] == 8 && option[1] == 10)
			return 1ull << 32 | (u32)option[2] << 24 | (u32)option[3] << 16 | (u32)option[4] << 8 | option[5];
		skip = option[1] - 1;
	}
	return 0;
}

static __always_inline u32 mix(u32 hash, u32 word)
{
	hash = (hash ^ word) * 0x85ebca6b;
	return hash ^ hash >> 15;
}

/* Which share of the connections one belongs to; src/study/sockets.rs does the same. */
static __always_inline u32 share(const struct flow *flow)
{
	const u32 *local = (const u32 *)flow->local, *remote = (const u32 *)flow->remote;
	u32 hash = mix(0, (u32)flow->local_port << 16 | flow->remote_port);
	int i;

#pragma unroll
	for (i = 0; i < 4; i++)
		hash = mix(mix(hash, local[i]), remote[i]);
	return hash % settings.sample;
}

static __always_inline int same(const u8 *address, const volatile u8 *other)
{
	const u32 *one = (const u32 *)address;
	const volatile u32 *two = (const volatile u32 *)other;

	return one[0] == two[0] && one[1] == two[1] && one[2] == two[2] && one[3] == two[3];
}

/* Whether not all connections are wanted. */
static __always_inline int narrowed(void)
{
	return settings.remote_family || settings.local_family || settings.remote_port || settings.local_port ||
	       settings.port || settings.sample > 1;
}

__noinline int wanted(const struct flow *flow)
{
	if (!flow)
		return 0;
	if (settings.remote_family &&
	    (settings.remote_family != flow->family || !same(flow->remote, settings.remote)))
		return 0;
	if (settings.local_family && (settings.local_family != flow->family || !same(flow->local, settings.local)))
		return 0;
	if (settings.remote_port && settings.remote_port != flow->remote_port)
		return 0;
	if (settings.local_port && settings.local_port != flow->local_port)
		return 0;
	if (settings.port && settings.port != flow->local_port && settings.port != flow->remote_port)
		return 0;
	return settings.sample <= 1 || share(flow) == 0;
}

#endif
