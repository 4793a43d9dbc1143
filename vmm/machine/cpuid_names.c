/* SPDX-License-Identifier: BSD-3-Clause */
/* CPUID bits by name: see cpuid_names.h. */
#include "vmm/machine/cpuid_names.h"

#include <string.h>

#include "base/num.h"
#include "vmm/machine/cpuid.h"

static const struct cpuid_names cpuid_named[] = {
	{1,
	 0,
	 VM_CPUID_EDX,
	 {[0] = "fpu",
	  [1] = "vme",
	  [2] = "de",
	  [3] = "pse",
	  [4] = "tsc",
	  [5] = "msr",
	  [6] = "pae",
	  [7] = "mce",
	  [8] = "cx8",
	  [9] = "apic",
	  [11] = "sep",
	  [12] = "mtrr",
	  [13] = "pge",
	  [14] = "mca",
	  [15] = "cmov",
	  [16] = "pat",
	  [17] = "pse36",
	  [19] = "clflush",
	  [23] = "mmx",
	  [24] = "fxsr",
	  [25] = "sse",
	  [26] = "sse2",
	  [27] = "ss"}},
	{1,
	 0,
	 VM_CPUID_ECX,
	 {[0] = "pni",     [1] = "pclmulqdq",     [3] = "monitor", [5] = "vmx",
	  [9] = "ssse3",   [12] = "fma",          [13] = "cx16",   [17] = "pcid",
	  [19] = "sse4-1", [20] = "sse4-2",       [21] = "x2apic", [22] = "movbe",
	  [23] = "popcnt", [24] = "tsc-deadline", [25] = "aes",    [26] = "xsave",
	  [28] = "avx",    [29] = "f16c",         [30] = "rdrand", [31] = "hypervisor"}},
	{7,
	 0,
	 VM_CPUID_EBX,
	 {[0] = "fsgsbase",    [1] = "tsc-adjust", [3] = "bmi1",      [4] = "hle",
	  [5] = "avx2",        [7] = "smep",       [8] = "bmi2",      [9] = "erms",
	  [10] = "invpcid",    [11] = "rtm",       [16] = "avx512f",  [17] = "avx512dq",
	  [18] = "rdseed",     [19] = "adx",       [20] = "smap",     [21] = "avx512ifma",
	  [23] = "clflushopt", [24] = "clwb",      [28] = "avx512cd", [29] = "sha-ni",
	  [30] = "avx512bw",   [31] = "avx512vl"}},
	{7,
	 0,
	 VM_CPUID_ECX,
	 {[1] = "avx512vbmi",
	  [2] = "umip",
	  [3] = "pku",
	  [5] = "waitpkg",
	  [6] = "avx512-vbmi2",
	  [8] = "gfni",
	  [9] = "vaes",
	  [10] = "vpclmulqdq",
	  [11] = "avx512vnni",
	  [12] = "avx512bitalg",
	  [14] = "avx512-vpopcntdq",
	  [16] = "la57",
	  [22] = "rdpid",
	  [24] = "bus-lock-detect",
	  [25] = "cldemote",
	  [27] = "movdiri",
	  [28] = "movdir64b"}},
	{7,
	 0,
	 VM_CPUID_EDX,
	 {[4] = "fsrm",
	  [10] = "md-clear",
	  [14] = "serialize",
	  [16] = "tsx-ldtrk",
	  [22] = "amx-bf16",
	  [23] = "avx512-fp16",
	  [24] = "amx-tile",
	  [25] = "amx-int8",
	  [26] = "spec-ctrl",
	  [27] = "stibp",
	  [28] = "flush-l1d",
	  [29] = "arch-capabilities",
	  [31] = "ssbd"}},
	{7, 1, VM_CPUID_EAX, {[4] = "avx-vnni", [5] = "avx512-bf16"}},
	{0xd, 1, VM_CPUID_EAX, {[0] = "xsaveopt", [1] = "xsavec", [2] = "xgetbv1", [3] = "xsaves"}},
	{0x40000001,
	 0,
	 VM_CPUID_EAX,
	 {[0] = "kvmclock",
	  [1] = "kvm-nopiodelay",
	  [2] = "kvm-mmu",
	  [3] = "kvmclock",
	  [4] = "kvm-asyncpf",
	  [5] = "kvm-steal-time",
	  [6] = "kvm-pv-eoi",
	  [7] = "kvm-pv-unhalt",
	  [9] = "kvm-pv-tlb-flush",
	  [11] = "kvm-pv-ipi",
	  [12] = "kvm-poll-control",
	  [13] = "kvm-pv-sched-yield",
	  [14] = "kvm-asyncpf-int",
	  [15] = "kvm-msi-ext-dest-id",
	  [24] = "kvmclock-stable-bit"}},
	{0x40000001, 0, VM_CPUID_EDX, {[0] = "kvm-hint-dedicated"}},
	{0x80000001,
	 0,
	 VM_CPUID_EDX,
	 {[11] = "syscall",
	  [20] = "nx",
	  [22] = "mmxext",
	  [25] = "fxsr-opt",
	  [26] = "pdpe1gb",
	  [27] = "rdtscp",
	  [29] = "lm"}},
	{0x80000001,
	 0,
	 VM_CPUID_ECX,
	 {[0] = "lahf-lm",
	  [2] = "svm",
	  [4] = "cr8legacy",
	  [5] = "abm",
	  [6] = "sse4a",
	  [7] = "misalignsse",
	  [8] = "3dnowprefetch",
	  [9] = "osvw",
	  [11] = "xop",
	  [16] = "fma4",
	  [21] = "tbm",
	  [22] = "topoext",
	  [23] = "perfctr-core"}},
	{0x80000007, 0, VM_CPUID_EDX, {[8] = "invtsc"}},
	{0x80000008,
	 0,
	 VM_CPUID_EBX,
	 {[0] = "clzero",
	  [2] = "xsaveerptr",
	  [9] = "wbnoinvd",
	  [12] = "ibpb",
	  [14] = "ibrs",
	  [15] = "amd-stibp",
	  [24] = "amd-ssbd",
	  [25] = "virt-ssbd"}},
};

const struct cpuid_names *cpuid_names(size_t *ret_nr)
{
	*ret_nr = ARRAY_SIZE(cpuid_named);
	return cpuid_named;
}

const char *cpuid_feature_name(uint32_t leaf, uint32_t subleaf, enum vm_cpuid_reg reg,
			       unsigned int bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(cpuid_named); i++) {
		const struct cpuid_names *r = &cpuid_named[i];

		if (r->leaf == leaf && r->subleaf == subleaf && r->reg == reg)
			return r->names[bit];
	}
	return NULL;
}

static bool cpuid_has(const struct kvm_cpuid_entry2 *entries, size_t nr_entries,
		      const struct cpuid_names *row, unsigned int bit)
{
	for (size_t i = 0; i < nr_entries; i++) {
		const struct kvm_cpuid_entry2 *e = &entries[i];
		const uint32_t regs[] = {
			[VM_CPUID_EAX] = e->eax,
			[VM_CPUID_EBX] = e->ebx,
			[VM_CPUID_ECX] = e->ecx,
			[VM_CPUID_EDX] = e->edx,
		};

		if (e->function == row->leaf && e->index == row->subleaf)
			return regs[row->reg] >> bit & 1;
	}
	return false;
}

/* Names that stand for several bits are beside each other in one row. */
void cpuid_each_name(const struct kvm_cpuid_entry2 *entries, size_t nr_entries,
		     void (*fn)(void *opaque, const char *name, bool on), void *opaque)
{
	for (size_t i = 0; i < ARRAY_SIZE(cpuid_named); i++) {
		const struct cpuid_names *row = &cpuid_named[i];

		for (unsigned int bit = 0; bit < 32; bit++) {
			unsigned int first = 0;

			if (!row->names[bit])
				continue;
			while (!row->names[first] || strcmp(row->names[first], row->names[bit]))
				first++;
			if (first == bit)
				fn(opaque, row->names[bit],
				   cpuid_has(entries, nr_entries, row, bit));
		}
	}
}
