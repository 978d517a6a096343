#!/bin/sh
# First process of the emulated machine: mounts what programs expect, runs /command, reports, switches off.
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
# As a distribution has it: who opens it has the module loaded.
mkdir -p /dev/net
mknod /dev/net/tun c 10 200
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t tmpfs run /run
hostname vm
ip link set lo up
ulimit -n 1048576

# One port each way out, so that what the command prints and what the kernel prints do not mix.
modprobe -a virtio_pci virtio_console
mkdir /dev/out
for port in /sys/class/virtio-ports/*; do
    ln -s "/dev/${port##*/}" "/dev/out/$(cat "$port/name")"
done
cd /root
/command </dev/null >/dev/out/stdout 2>/dev/out/stderr
echo $? >/dev/out/status
poweroff -f
