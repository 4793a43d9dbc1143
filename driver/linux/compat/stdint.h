/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The C header <stdint.h> as kernels have it: the core and its headers include it. */
#ifndef EBB_MEM_STDINT_H
#define EBB_MEM_STDINT_H

#include <linux/types.h>
#include <linux/limits.h>

#ifndef UINT64_MAX
#define UINT64_MAX U64_MAX
#endif
#ifndef UINT32_MAX
#define UINT32_MAX U32_MAX
#endif
#ifndef UINT16_MAX
#define UINT16_MAX U16_MAX
#endif
#ifndef UINT8_MAX
#define UINT8_MAX U8_MAX
#endif
#ifndef UINT64_C
#define UINT64_C(number) number##ull
#endif
#ifndef UINT32_C
#define UINT32_C(number) number##u
#endif

#endif
