/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel types that the tracer looks into beside sockets: tasks, their files and control groups. Sources: linux/sched.h,
 * linux/fs.h, linux/cgroup-defs.h, linux/kernfs.h (6.1 to 6.18).
 */
#ifndef TIDEWAIT_TRACE_KERNEL_H
#define TIDEWAIT_TRACE_KERNEL_H

#include "sockets.h"

typedef __u64 __attribute__((may_alias)) word; /* eight bytes of anything */

#define PF_KTHREAD 0x00200000
#define SOCK_BINDPORT_LOCK 8
#define TIMEWAIT_TICKS 56 /* TCP_TIMEWAIT_LEN, 60 s */
#define TICK_SHIFT 30	  /* a tick is 2^30 ns, 1.07 s: no division */
#define IPPROTO_MPTCP 262
#define S_IFMT 0170000
#define S_IFSOCK 0140000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct socket {
	struct sock *sk;
};

struct inode {
	u16 i_mode;
};

struct file {
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

typedef struct {
	u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
};

struct kernfs_node {
	const char *name;
	struct kernfs_node *parent;
	u64 id;
};

/* Since 6.15 (kernfs: RCU for names and parents). */
struct kernfs_node___rcu {
	struct kernfs_node *__parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	unsigned int flags;
	int tgid;
	int pid;
	struct task_struct *group_leader;
	char comm[16];
	const struct cred *cred;
	struct files_struct *files;
	struct css_set *cgroups;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di;
	unsigned long si;
	unsigned long dx;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	u64 regs[31];
	u64 orig_x0;
	s32 syscallno;
};
#endif

#pragma clang attribute pop

enum cgroup_subsys_id {
	pids_cgrp_id = 0,
};

/* include/net/sock.h: SOCK_DONE is set when the peer's FIN came. */
enum sock_flags {
	SOCK_DONE = 1,
};

#endif
