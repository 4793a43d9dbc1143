/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What KVM counts of a machine and of each vCPU (KVM_GET_STATS_FD): names, kinds and values, as the
 * kernel describes them itself.
 *
 * I1  Nothing here waits for a vCPU: a vCPU's descriptor is made before it runs for the first time,
 *     and reading it takes no lock of the kernel's that a running vCPU holds.
 * I2  The kernel's description is checked like anybody else's: sizes are bounded, names end.
 *
 * Threads: any.
 */
#ifndef VMM_KVM_KVM_STATS_H
#define VMM_KVM_KVM_STATS_H

#include <stddef.h>
#include <stdint.h>

struct kvm_stat {
	const char *name;
	uint32_t flags; /* KVM_STATS_TYPE_..., KVM_STATS_UNIT_..., KVM_STATS_BASE_... */
	int exponent;   /* of the base */
	uint32_t bucket_size;
	const uint64_t *values;
	size_t nr;
};

/* A descriptor of the figures of @fd, a machine's or a vCPU's; the caller's. -1: there is none. */
int kvm_stats_open(int fd);
/*
 * Call @fn with each figure, valid during the call. 0, or -errno: -EPROTO where the kernel
 * describes what cannot be; @fn was not called then.
 */
int kvm_stats_read(int fd, void (*fn)(void *opaque, const struct kvm_stat *stat), void *opaque);

#endif
