/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who listens already when the tracing begins: one pass over the open files of all processes, in the kernel.
 *
 * It runs after the state changes are followed, so that whoever listens is seen by one or the other. Listening sockets
 * of the kernel itself (NFS) are in nobody's files and are not found.
 */
#ifndef TIDEWAIT_TRACE_EXISTING_H
#define TIDEWAIT_TRACE_EXISTING_H

/* systemd keeps the listening sockets that it hands to services. */
static __always_inline int keeps_for_others(u32 number)
{
	struct owner *owner = bpf_map_lookup_elem(&owners, &number);
	const char name[] = "systemd";

	if (!owner || owner->tgid == 1)
		return 1;
	for (int byte = 0; byte < sizeof(name); byte++)
		if (owner->command[byte] != name[byte])
			return 0;
	return 1;
}

SEC("iter/task_file")
int existing(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	struct sock *sk;
	u32 *noted, former = 0, owner;
	u64 cookie;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || sk->__sk_common.skc_state != TCP_LISTEN || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	/* Of several holders the first, in most cases the parent of the others. */
	cookie = bpf_get_socket_cookie(sk);
	noted = bpf_map_lookup_elem(&listeners, &cookie);
	if (noted) {
		former = *noted;
		if (former && !keeps_for_others(former))
			return 0;
	}
	owner = owner_of(task, task->cred->uid.val);
	if (bpf_map_update_elem(&listeners, &cookie, &owner, BPF_ANY))
		add(&ledger.losses.listening, 1);
	note_listening(sk, owner, former);
	return 0;
}

#endif
