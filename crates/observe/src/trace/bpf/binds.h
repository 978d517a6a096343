/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * bind() of TCP sockets that fails for want of a port (EADDRINUSE). It changes no state, so the end of the system call
 * is what shows it. Not seen: bind() of 32-bit processes, and by way of io_uring.
 *
 * The tracepoint of all system calls, not that of bind() alone: the latter is found by a number out of tracefs, which
 * many containers lack. Either makes every system call of the machine take the slow way out, which is what they cost.
 */
#ifndef TIDEWAIT_TRACE_BINDS_H
#define TIDEWAIT_TRACE_BINDS_H

#if defined(__TARGET_ARCH_x86)
#define CALL(regs) ((regs)->orig_ax)
#define BIND 49
#define DESCRIPTOR(regs) ((regs)->di)
#define ADDRESS(regs) ((regs)->si)
#define LENGTH(regs) ((regs)->dx)
#elif defined(__TARGET_ARCH_arm64)
#define CALL(regs) ((regs)->syscallno)
#define BIND 200
#define DESCRIPTOR(regs) ((regs)->orig_x0)
#define ADDRESS(regs) ((regs)->regs[1])
#define LENGTH(regs) ((regs)->regs[2])
#endif

#ifdef BIND

/* struct sockaddr_in6, of which struct sockaddr_in is the beginning. */
struct asked {
	u16 family;
	u16 port;
	u8 v4[4];
	u8 v6[16];
	u32 scope;
};

/* The socket behind a file descriptor of the running process; only to be read from with BPF_CORE_READ. */
static __always_inline struct sock *socket_of(struct task_struct *task, u32 descriptor)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;
	struct socket *socket;

	if (descriptor >= BPF_CORE_READ(table, max_fds) ||
	    bpf_probe_read_kernel(&file, sizeof(file), files + descriptor) || !file)
		return NULL;
	/* Another thread may have closed it meanwhile. */
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_bind, struct pt_regs *regs, long result)
{
	struct story story = { .kind = REFUSED, .error = EADDRINUSE };
	struct asked asked = {};
	struct place at = {};
	struct tally *tally;
	struct sock *sk;
	u16 protocol, family;

	if (result != -EADDRINUSE || CALL(regs) != BIND)
		return 0;
	sk = socket_of(bpf_get_current_task_btf(), DESCRIPTOR(regs));
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	protocol = BPF_CORE_READ(sk, sk_protocol);
	if ((family != AF_INET && family != AF_INET6) || (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP))
		return 0;
	at.flow.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (settings.netns && at.flow.netns != settings.netns)
		return 0;
	/* The kernel has just read it from there. */
	if (bpf_probe_read_user(&asked, 8, (void *)ADDRESS(regs)))
		return 0;
	at.flow.family = AF_INET;
	if (asked.family == AF_INET6) {
		u32 *words = (u32 *)asked.v6;

		if (bpf_probe_read_user(&asked, sizeof(asked), (void *)ADDRESS(regs)))
			return 0;
		if (words[0] == 0 && words[1] == 0 && words[2] == bpf_htonl(0xffff)) {
			__builtin_memcpy(asked.v4, asked.v6 + 12, 4);
		} else {
			at.flow.family = AF_INET6;
			__builtin_memcpy(at.flow.local, asked.v6, 16);
			if (asked.v6[0] == 0xfe && (asked.v6[1] & 0xc0) == 0x80)
				at.flow.scope = asked.scope;
		}
	}
	if (at.flow.family == AF_INET)
		__builtin_memcpy(at.flow.local, asked.v4, 4);
	at.flow.direction = BINDING;
	at.flow.port = at.local_port = bpf_ntohs(asked.port);
	at.flow.owner = story.owner = caller();
	story.pool = asked.port ? BY_THE_PROGRAM : BY_BIND;
	story.cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	tally = tally_at(row_of(&at.flow));
	if (tally)
		add(&tally->no_port, 1);
	if (settings.events & (1 << REFUSED))
		tell(&story, &at);
	return 0;
}

#endif
#endif
