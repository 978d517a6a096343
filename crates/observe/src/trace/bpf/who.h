/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who is running: owners, their control groups, and the numbers that they have here. */
#ifndef TIDEWAIT_TRACE_WHO_H
#define TIDEWAIT_TRACE_WHO_H

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
	struct owner *kept;
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
	kept->cgroup = key->cgroup;
	kept->since = bpf_ktime_get_ns();
	kept->tgid = key->tgid;
	kept->uid = key->uid;
	__builtin_memcpy(kept->command, key->command, COMMAND);
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

/* The running process. 0 for a thread of the kernel. Not static: the verifier then looks through it once, not at each call. */
__noinline u32 caller(void)
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

#endif
