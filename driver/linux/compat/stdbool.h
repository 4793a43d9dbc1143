/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The C header <stdbool.h> as kernels have it: the core and its headers include it. */
#ifndef EBB_MEM_STDBOOL_H
#define EBB_MEM_STDBOOL_H

#include <linux/types.h>

#endif
