/* SPDX-License-Identifier: BSD-3-Clause */
/* CPUID bits by name: see cpuid_names.h. */
#include "vmm/machine/cpuid_names.h"

#include <assert.h>
#include <string.h>

#include "base/num.h"
#include "vmm/machine/cpuid.h"

static const struct cpuid_names cpuid_named[] = {
	{1,
	 0,
	 VM_CPUID_EDX,
	 {[0] = "fpu",   [1] = "vme",    [2] = "de",    [3] = "pse",      [4] = "tsc",
	  [5] = "msr",   [6] = "pae",    [7] = "mce",   [8] = "cx8",      [9] = "apic",
	  [11] = "sep",  [12] = "mtrr",  [13] = "pge",  [14] = "mca",     [15] = "cmov",
	  [16] = "pat",  [17] = "pse36", [18] = "pn",   [19] = "clflush", [21] = "ds",
	  [22] = "acpi", [23] = "mmx",   [24] = "fxsr", [25] = "sse",     [26] = "sse2",
	  [27] = "ss",   [28] = "ht",    [29] = "tm",   [30] = "ia64",    [31] = "pbe"}},
	{1,
	 0,
	 VM_CPUID_ECX,
	 {[0] = "pni",        [1] = "pclmulqdq", [2] = "dtes64",        [3] = "monitor",
	  [4] = "ds-cpl",     [5] = "vmx",       [6] = "smx",           [7] = "est",
	  [8] = "tm2",        [9] = "ssse3",     [10] = "cid",          [12] = "fma",
	  [13] = "cx16",      [14] = "xtpr",     [15] = "pdcm",         [17] = "pcid",
	  [18] = "dca",       [19] = "sse4-1",   [20] = "sse4-2",       [21] = "x2apic",
	  [22] = "movbe",     [23] = "popcnt",   [24] = "tsc-deadline", [25] = "aes",
	  [26] = "xsave",     [28] = "avx",      [29] = "f16c",         [30] = "rdrand",
	  [31] = "hypervisor"}},
	{6, 0, VM_CPUID_EAX, {[2] = "arat"}},
	{7,
	 0,
	 VM_CPUID_EBX,
	 {[0] = "fsgsbase",    [1] = "tsc-adjust",      [3] = "bmi1",        [4] = "hle",
	  [5] = "avx2",        [6] = "fdp-excptn-only", [7] = "smep",        [8] = "bmi2",
	  [9] = "erms",        [10] = "invpcid",        [11] = "rtm",        [13] = "zero-fcs-fds",
	  [14] = "mpx",        [16] = "avx512f",        [17] = "avx512dq",   [18] = "rdseed",
	  [19] = "adx",        [20] = "smap",           [21] = "avx512ifma", [22] = "pcommit",
	  [23] = "clflushopt", [24] = "clwb",           [26] = "avx512pf",   [27] = "avx512er",
	  [28] = "avx512cd",   [29] = "sha-ni",         [30] = "avx512bw",   [31] = "avx512vl"}},
	{7,
	 0,
	 VM_CPUID_ECX,
	 {[1] = "avx512vbmi",
	  [2] = "umip",
	  [3] = "pku",
	  [5] = "waitpkg",
	  [6] = "avx512vbmi2",
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
	  [28] = "movdir64b",
	  [31] = "pks"}},
	{7,
	 0,
	 VM_CPUID_EDX,
	 {[2] = "avx512-4vnniw",
	  [3] = "avx512-4fmaps",
	  [4] = "fsrm",
	  [8] = "avx512-vp2intersect",
	  [10] = "md-clear",
	  [14] = "serialize",
	  [16] = "tsx-ldtrk",
	  [19] = "arch-lbr",
	  [22] = "amx-bf16",
	  [23] = "avx512-fp16",
	  [24] = "amx-tile",
	  [25] = "amx-int8",
	  [26] = "spec-ctrl",
	  [27] = "stibp",
	  [28] = "flush-l1d",
	  [29] = "arch-capabilities",
	  [30] = "core-capability",
	  [31] = "ssbd"}},
	{7,
	 1,
	 VM_CPUID_EAX,
	 {[0] = "sha512",
	  [1] = "sm3",
	  [2] = "sm4",
	  [4] = "avx-vnni",
	  [5] = "avx512-bf16",
	  [7] = "cmpccxadd",
	  [10] = "fzrm",
	  [11] = "fsrs",
	  [12] = "fsrc",
	  [17] = "fred",
	  [18] = "lkgs",
	  [19] = "wrmsrns",
	  [21] = "amx-fp16",
	  [23] = "avx-ifma",
	  [26] = "lam"}},
	{7,
	 1,
	 VM_CPUID_EDX,
	 {[4] = "avx-vnni-int8",
	  [5] = "avx-ne-convert",
	  [8] = "amx-complex",
	  [10] = "avx-vnni-int16",
	  [14] = "prefetchiti",
	  [19] = "avx10"}},
	{7,
	 2,
	 VM_CPUID_EDX,
	 {[0] = "intel-psfd",
	  [1] = "ipred-ctrl",
	  [2] = "rrsba-ctrl",
	  [3] = "ddpd-u",
	  [4] = "bhi-ctrl",
	  [5] = "mcdt-no"}},
	{0xd,
	 1,
	 VM_CPUID_EAX,
	 {[0] = "xsaveopt", [1] = "xsavec", [2] = "xgetbv1", [3] = "xsaves", [4] = "xfd"}},
	{0x24, 0, VM_CPUID_EBX, {[16] = "avx10-128", [17] = "avx10-256", [18] = "avx10-512"}},
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
	  [10] = "kvm-asyncpf-vmexit",
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
	  [29] = "lm",
	  [30] = "3dnowext",
	  [31] = "3dnow"}},
	{0x80000001,
	 0,
	 VM_CPUID_ECX,
	 {[0] = "lahf-lm",       [1] = "cmp-legacy",  [2] = "svm",   [3] = "extapic",
	  [4] = "cr8legacy",     [5] = "abm",         [6] = "sse4a", [7] = "misalignsse",
	  [8] = "3dnowprefetch", [9] = "osvw",        [10] = "ibs",  [11] = "xop",
	  [12] = "skinit",       [13] = "wdt",        [15] = "lwp",  [16] = "fma4",
	  [17] = "tce",          [19] = "nodeid-msr", [21] = "tbm",  [22] = "topoext",
	  [23] = "perfctr-core", [24] = "perfctr-nb"}},
	{0x80000007, 0, VM_CPUID_EBX, {[0] = "overflow-recov", [1] = "succor"}},
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
	  [17] = "stibp-always-on",
	  [24] = "amd-ssbd",
	  [25] = "virt-ssbd",
	  [26] = "amd-no-ssb",
	  [28] = "amd-psfd"}},
	{0x8000000a,
	 0,
	 VM_CPUID_EDX,
	 {[0] = "npt",
	  [1] = "lbrv",
	  [2] = "svm-lock",
	  [3] = "nrip-save",
	  [4] = "tsc-scale",
	  [5] = "vmcb-clean",
	  [6] = "flushbyasid",
	  [7] = "decodeassists",
	  [10] = "pause-filter",
	  [12] = "pfthreshold",
	  [13] = "avic",
	  [15] = "v-vmsave-vmload",
	  [16] = "vgif",
	  [25] = "vnmi",
	  [28] = "svme-addr-chk"}},
	{0x80000021,
	 0,
	 VM_CPUID_EAX,
	 {[0] = "no-nested-data-bp",
	  [2] = "lfence-always-serializing",
	  [6] = "null-sel-clr-base",
	  [8] = "auto-ibrs",
	  [24] = "eraps",
	  [27] = "sbpb",
	  [28] = "ibpb-brtype",
	  [29] = "srso-no",
	  [30] = "srso-user-kernel-no"}},
	{0x80000022, 0, VM_CPUID_EAX, {[0] = "perfmon-v2"}},
	{CPUID_ARCH_CAPABILITIES,
	 0,
	 VM_CPUID_EAX,
	 {[0] = "rdctl-no",
	  [1] = "ibrs-all",
	  [2] = "rsba",
	  [3] = "skip-l1dfl-vmentry",
	  [4] = "ssb-no",
	  [5] = "mds-no",
	  [6] = "pschange-mc-no",
	  [7] = "tsx-ctrl",
	  [8] = "taa-no",
	  [13] = "sbdr-ssdp-no",
	  [14] = "fbsdp-no",
	  [15] = "psdp-no",
	  [17] = "fb-clear",
	  [20] = "bhi-no",
	  [24] = "pbrsb-no",
	  [26] = "gds-no",
	  [27] = "rfds-no",
	  [28] = "rfds-clear"}},
};

static_assert(ARRAY_SIZE(cpuid_named) < CPUID_NAMES_MAX, "room for all in struct cpu_features");

const struct cpuid_names *cpuid_names(size_t *ret_nr)
{
	*ret_nr = ARRAY_SIZE(cpuid_named);
	return cpuid_named;
}

size_t cpuid_names_row(uint32_t leaf, uint32_t subleaf, enum vm_cpuid_reg reg)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cpuid_named); i++) {
		const struct cpuid_names *r = &cpuid_named[i];

		if (r->leaf == leaf && r->subleaf == subleaf && r->reg == reg)
			break;
	}
	return i;
}

const char *cpuid_feature_name(uint32_t leaf, uint32_t subleaf, enum vm_cpuid_reg reg,
			       unsigned int bit)
{
	size_t row = cpuid_names_row(leaf, subleaf, reg);

	return row < ARRAY_SIZE(cpuid_named) ? cpuid_named[row].names[bit] : NULL;
}

static bool cpuid_has(const struct kvm_cpuid_entry2 *entries, size_t nr_entries,
		      uint64_t arch_capabilities, const struct cpuid_names *row, unsigned int bit)
{
	if (row->leaf == CPUID_ARCH_CAPABILITIES)
		return arch_capabilities >> bit & 1;
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
		     uint64_t arch_capabilities,
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
				   cpuid_has(entries, nr_entries, arch_capabilities, row, bit));
		}
	}
}
