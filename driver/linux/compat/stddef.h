/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The C header <stddef.h> as kernels have it: the core and its headers include it. */
#ifndef EBB_MEM_STDDEF_H
#define EBB_MEM_STDDEF_H

#include <linux/types.h>
#include <linux/stddef.h>

#endif
