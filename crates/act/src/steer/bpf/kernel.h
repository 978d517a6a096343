/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What steering has to know of the kernel beside its sockets. */
#ifndef TIDEWAIT_STEER_KERNEL_H
#define TIDEWAIT_STEER_KERNEL_H

#include "sockets.h"

#define SOL_SOCKET 1
#if defined(__TARGET_ARCH_x86) || defined(__TARGET_ARCH_arm64)
#define SO_REUSEADDR 2
#else
#error "asm/socket.h of this kind of processor has not been looked at"
#endif

#define SK_CAN_REUSE 1 /* what SO_REUSEADDR sets */
#define SOCK_BINDADDR_LOCK 4 /* the source was bound */

#endif
