/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the study has to know of the kernel beside its sockets. Source of the type: linux/skbuff.h (6.1 to 6.18). */
#ifndef TIDEWAIT_STUDY_KERNEL_H
#define TIDEWAIT_STUDY_KERNEL_H

#include "sockets.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define IPPROTO_HOPOPTS 0
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH 51
#define IPPROTO_DSTOPTS 60
#define TCX_NEXT -1 /* since 6.6: the next program, then the stack */
#define TCP_PAWS_WRAP (60 * 60 * 24 * 24)
#define TCP_PAWS_MSL 60

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sk_buff {
	unsigned int len;
};

#pragma clang attribute pop

#endif
