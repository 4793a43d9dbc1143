/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of CPU models, and what follows from it: see cpu_models.h. */
#include "vmm/machine/cpu_models.h"

#include <assert.h>
#include <string.h>

#include "base/num.h"

#define INTEL "GenuineIntel"
#define AMD   "AuthenticAMD"
#define HYGON "HygonGenuine"

const struct cpu_model cpu_models[] = {
	{"qemu64-v1", AMD, "QEMU Virtual CPU version 2.5+", 15, 107, 1, 0xd, 0x8000000a, NULL,
	 "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr "
	 "sse sse2 pni cx16 lahf-lm svm syscall nx lm"},
	{"kvm64-v1", INTEL, "Common KVM processor", 15, 6, 1, 0xd, 0x80000008, "qemu64-v1",
	 "vme -lahf-lm -svm"},
	{"core2duo-v1", INTEL, "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz", 6, 15, 11, 0xa,
	 0x80000008, "kvm64-v1", "acpi ss monitor ssse3 lahf-lm"},
	{"Conroe-v1", INTEL, "Intel Celeron_4x0 (Conroe/Merom Class Core 2)", 6, 15, 3, 0xa,
	 0x80000008, "kvm64-v1", "ssse3 lahf-lm -cx16"},
	{"Penryn-v1", INTEL, "Intel Core 2 Duo P9xxx (Penryn Class Core 2)", 6, 23, 3, 0xa,
	 0x80000008, "Conroe-v1", "cx16 sse4-1"},
	{"Nehalem-v1", INTEL, "Intel Core i7 9xx (Nehalem Class Core i7)", 6, 26, 3, 0xb,
	 0x80000008, "Penryn-v1", "sse4-2 popcnt"},
	{"Nehalem-v2", INTEL, "Intel Core i7 9xx (Nehalem Core i7, IBRS update)", 6, 26, 3, 0xb,
	 0x80000008, "Nehalem-v1", "spec-ctrl"},
	{"Westmere-v1", INTEL, "Westmere E56xx/L56xx/X56xx (Nehalem-C)", 6, 44, 1, 0xb, 0x80000008,
	 "Nehalem-v1", "pclmulqdq aes arat"},
	{"Westmere-v2", INTEL, "Westmere E56xx/L56xx/X56xx (IBRS update)", 6, 44, 1, 0xb,
	 0x80000008, "Westmere-v1", "spec-ctrl"},
	{"SandyBridge-v1", INTEL, "Intel Xeon E312xx (Sandy Bridge)", 6, 42, 1, 0xd, 0x80000008,
	 "Westmere-v1", "x2apic tsc-deadline xsave avx xsaveopt rdtscp"},
	{"SandyBridge-v2", INTEL, "Intel Xeon E312xx (Sandy Bridge, IBRS update)", 6, 42, 1, 0xd,
	 0x80000008, "SandyBridge-v1", "spec-ctrl"},
	{"IvyBridge-v1", INTEL, "Intel Xeon E3-12xx v2 (Ivy Bridge)", 6, 58, 9, 0xd, 0x80000008,
	 "SandyBridge-v1", "f16c rdrand fsgsbase smep erms"},
	{"IvyBridge-v2", INTEL, "Intel Xeon E3-12xx v2 (Ivy Bridge, IBRS)", 6, 58, 9, 0xd,
	 0x80000008, "IvyBridge-v1", "spec-ctrl"},
	{"Haswell-v1", INTEL, "Intel Core Processor (Haswell)", 6, 60, 4, 0xd, 0x80000008,
	 "IvyBridge-v1", "fma pcid movbe bmi1 hle avx2 bmi2 invpcid rtm abm"},
	{"Haswell-v2", INTEL, "Intel Core Processor (Haswell, no TSX)", 6, 60, 1, 0xd, 0x80000008,
	 "Haswell-v1", "-hle -rtm"},
	{"Haswell-v3", INTEL, "Intel Core Processor (Haswell, IBRS)", 6, 60, 4, 0xd, 0x80000008,
	 "Haswell-v1", "spec-ctrl"},
	{"Haswell-v4", INTEL, "Intel Core Processor (Haswell, no TSX, IBRS)", 6, 60, 1, 0xd,
	 0x80000008, "Haswell-v2", "spec-ctrl"},
	{"Broadwell-v1", INTEL, "Intel Core Processor (Broadwell)", 6, 61, 2, 0xd, 0x80000008,
	 "Haswell-v1", "rdseed adx smap 3dnowprefetch"},
	{"Broadwell-v2", INTEL, "Intel Core Processor (Broadwell, no TSX)", 6, 61, 2, 0xd,
	 0x80000008, "Broadwell-v1", "-hle -rtm"},
	{"Broadwell-v3", INTEL, "Intel Core Processor (Broadwell, IBRS)", 6, 61, 2, 0xd, 0x80000008,
	 "Broadwell-v1", "spec-ctrl"},
	{"Broadwell-v4", INTEL, "Intel Core Processor (Broadwell, no TSX, IBRS)", 6, 61, 2, 0xd,
	 0x80000008, "Broadwell-v2", "spec-ctrl"},
	{"Skylake-Client-v1", INTEL, "Intel Core Processor (Skylake)", 6, 94, 3, 0xd, 0x80000008,
	 "Broadwell-v1", "xsavec xgetbv1"},
	{"Skylake-Client-v2", INTEL, "Intel Core Processor (Skylake, IBRS)", 6, 94, 3, 0xd,
	 0x80000008, "Skylake-Client-v1", "spec-ctrl"},
	{"Skylake-Client-v3", INTEL, "Intel Core Processor (Skylake, IBRS, no TSX)", 6, 94, 3, 0xd,
	 0x80000008, "Skylake-Client-v2", "-hle -rtm"},
	{"Skylake-Client-v4", INTEL, "Intel Core Processor (Skylake, IBRS, no TSX)", 6, 94, 3, 0xd,
	 0x80000008, "Skylake-Client-v3", "xsaves"},
	{"Skylake-Server-v1", INTEL, "Intel Xeon Processor (Skylake)", 6, 85, 4, 0xd, 0x80000008,
	 "Skylake-Client-v1",
	 "avx512f avx512dq clflushopt clwb avx512cd avx512bw avx512vl pku pdpe1gb"},
	{"Skylake-Server-v2", INTEL, "Intel Xeon Processor (Skylake, IBRS)", 6, 85, 4, 0xd,
	 0x80000008, "Skylake-Server-v1", "spec-ctrl -clflushopt"},
	{"Skylake-Server-v3", INTEL, "Intel Xeon Processor (Skylake, IBRS, no TSX)", 6, 85, 4, 0xd,
	 0x80000008, "Skylake-Server-v2", "-hle -rtm"},
	{"Skylake-Server-v4", INTEL, "Intel Xeon Processor (Skylake, IBRS, no TSX)", 6, 85, 4, 0xd,
	 0x80000008, "Skylake-Server-v3", ""},
	{"Skylake-Server-v5", INTEL, "Intel Xeon Processor (Skylake, IBRS, no TSX)", 6, 85, 4, 0xd,
	 0x80000008, "Skylake-Server-v3", "xsaves"},
	{"Cascadelake-Server-v1", INTEL, "Intel Xeon Processor (Cascadelake)", 6, 85, 6, 0xd,
	 0x80000008, "Skylake-Server-v1", "avx512vnni spec-ctrl ssbd"},
	{"Cascadelake-Server-v2", INTEL, "Intel Xeon Processor (Cascadelake)", 6, 85, 6, 0xd,
	 0x80000008, "Cascadelake-Server-v1",
	 "arch-capabilities rdctl-no ibrs-all skip-l1dfl-vmentry mds-no"},
	{"Cascadelake-Server-v3", INTEL, "Intel Xeon Processor (Cascadelake)", 6, 85, 6, 0xd,
	 0x80000008, "Cascadelake-Server-v2", "-hle -rtm"},
	{"Cascadelake-Server-v4", INTEL, "Intel Xeon Processor (Cascadelake)", 6, 85, 6, 0xd,
	 0x80000008, "Cascadelake-Server-v3", ""},
	{"Cascadelake-Server-v5", INTEL, "Intel Xeon Processor (Cascadelake)", 6, 85, 6, 0xd,
	 0x80000008, "Cascadelake-Server-v3", "xsaves"},
	{"Cooperlake-v1", INTEL, "Intel Xeon Processor (Cooperlake)", 6, 85, 10, 0xd, 0x80000008,
	 "Cascadelake-Server-v2", "stibp avx512-bf16 pschange-mc-no taa-no"},
	{"Cooperlake-v2", INTEL, "Intel Xeon Processor (Cooperlake)", 6, 85, 10, 0xd, 0x80000008,
	 "Cooperlake-v1", "xsaves"},
	{"Icelake-Server-v1", INTEL, "Intel Xeon Processor (Icelake)", 6, 134, 0, 0xd, 0x80000008,
	 "Cascadelake-Server-v1",
	 "avx512vbmi umip avx512vbmi2 gfni vaes vpclmulqdq avx512bitalg avx512-vpopcntdq la57 "
	 "wbnoinvd"},
	{"Icelake-Server-v2", INTEL, "Intel Xeon Processor (Icelake)", 6, 134, 0, 0xd, 0x80000008,
	 "Icelake-Server-v1", "-hle -rtm"},
	{"Icelake-Server-v3", INTEL, "Intel Xeon Processor (Icelake)", 6, 134, 0, 0xd, 0x80000008,
	 "Icelake-Server-v2",
	 "arch-capabilities rdctl-no ibrs-all skip-l1dfl-vmentry mds-no pschange-mc-no taa-no"},
	{"Icelake-Server-v4", INTEL, "Intel Xeon Processor (Icelake)", 6, 106, 0, 0xd, 0x80000008,
	 "Icelake-Server-v3", "avx512ifma sha-ni rdpid fsrm"},
	{"Icelake-Server-v5", INTEL, "Intel Xeon Processor (Icelake)", 6, 106, 0, 0xd, 0x80000008,
	 "Icelake-Server-v4", "xsaves"},
	{"Icelake-Server-v6", INTEL, "Intel Xeon Processor (Icelake)", 6, 106, 0, 0xd, 0x80000008,
	 "Icelake-Server-v5", ""},
	{"Icelake-Server-v7", INTEL, "Intel Xeon Processor (Icelake)", 6, 106, 0, 0xd, 0x80000008,
	 "Icelake-Server-v5", "hle rtm"},
	{"SapphireRapids-v1", INTEL, "Intel Xeon Processor (SapphireRapids)", 6, 143, 4, 0x20,
	 0x80000008, "Icelake-Server-v7",
	 "bus-lock-detect serialize tsx-ldtrk amx-bf16 avx512-fp16 amx-tile amx-int8 avx-vnni "
	 "avx512-bf16 fzrm fsrs fsrc xfd"},
	{"SapphireRapids-v2", INTEL, "Intel Xeon Processor (SapphireRapids)", 6, 143, 4, 0x20,
	 0x80000008, "SapphireRapids-v1", "sbdr-ssdp-no fbsdp-no psdp-no"},
	{"SapphireRapids-v3", INTEL, "Intel Xeon Processor (SapphireRapids)", 6, 143, 4, 0x20,
	 0x80000008, "SapphireRapids-v2", "ss tsc-adjust cldemote movdiri movdir64b"},
	{"GraniteRapids-v1", INTEL, "Intel Xeon Processor (GraniteRapids)", 6, 173, 0, 0x20,
	 0x80000008, "SapphireRapids-v2", "amx-fp16 prefetchiti mcdt-no pbrsb-no"},
	{"GraniteRapids-v2", INTEL, "Intel Xeon Processor (GraniteRapids)", 6, 173, 1, 0x24,
	 0x80000008, "GraniteRapids-v1",
	 "ss tsc-adjust cldemote movdiri movdir64b avx10 avx10-128 avx10-256 avx10-512"},
	{"SierraForest-v1", INTEL, "Intel Xeon Processor (SierraForest)", 6, 175, 0, 0x23,
	 0x80000008, "Icelake-Server-v5",
	 "bus-lock-detect serialize avx-vnni cmpccxadd fsrs avx-ifma avx-vnni-int8 avx-ne-convert "
	 "mcdt-no sbdr-ssdp-no fbsdp-no psdp-no pbrsb-no -avx512f -avx512dq -avx512ifma -avx512cd "
	 "-avx512bw -avx512vl -avx512vbmi -avx512vbmi2 -avx512vnni -avx512bitalg "
	 "-avx512-vpopcntdq -la57 -taa-no"},
	{"SierraForest-v2", INTEL, "Intel Xeon Processor (SierraForest)", 6, 175, 3, 0x23,
	 0x80000008, "SierraForest-v1",
	 "ss tsc-adjust cldemote movdiri movdir64b lam intel-psfd ipred-ctrl rrsba-ctrl bhi-ctrl "
	 "gds-no rfds-no"},
	{"ClearwaterForest-v1", INTEL, "Intel Xeon Processor (ClearwaterForest)", 6, 221, 0, 0x23,
	 0x80000008, "SierraForest-v2", "sha512 sm3 sm4 avx-vnni-int16 prefetchiti ddpd-u bhi-no"},
	{"Denverton-v1", INTEL, "Intel Atom Processor (Denverton)", 6, 95, 1, 0x15, 0x80000008,
	 "IvyBridge-v2",
	 "monitor movbe mpx rdseed smap clflushopt sha-ni arch-capabilities ssbd xsavec xgetbv1 "
	 "3dnowprefetch pdpe1gb rdctl-no skip-l1dfl-vmentry -avx -f16c"},
	{"Denverton-v2", INTEL, "Intel Atom Processor (Denverton)", 6, 95, 1, 0x15, 0x80000008,
	 "Denverton-v1", "-monitor -mpx"},
	{"Denverton-v3", INTEL, "Intel Atom Processor (Denverton)", 6, 95, 1, 0x15, 0x80000008,
	 "Denverton-v2", "xsaves"},
	{"Snowridge-v1", INTEL, "Intel Atom Processor (SnowRidge)", 6, 134, 1, 0x1b, 0x80000008,
	 "Denverton-v1",
	 "clwb umip gfni cldemote movdiri movdir64b core-capability -rdctl-no -skip-l1dfl-vmentry"},
	{"Snowridge-v2", INTEL, "Intel Atom Processor (Snowridge, no MPX)", 6, 134, 1, 0x1b,
	 0x80000008, "Snowridge-v1", "-mpx"},
	{"Snowridge-v3", INTEL, "Intel Atom Processor (Snowridge, no MPX)", 6, 134, 1, 0x1b,
	 0x80000008, "Snowridge-v2", "xsaves"},
	{"Snowridge-v4", INTEL, "Intel Atom Processor (Snowridge, no MPX)", 6, 134, 1, 0x1b,
	 0x80000008, "Snowridge-v3", "-core-capability"},
	{"KnightsMill-v1", INTEL, "Intel Xeon Phi Processor (Knights Mill)", 6, 133, 0, 0xd,
	 0x80000008, "Broadwell-v2",
	 "ss avx512f avx512pf avx512er avx512cd avx512-vpopcntdq avx512-4vnniw avx512-4fmaps "
	 "pdpe1gb -pcid -invpcid -smap"},
	{"phenom-v1", AMD, "AMD Phenom(tm) 9550 Quad-Core Processor", 16, 2, 3, 0x5, 0x8000001a,
	 "qemu64-v1",
	 "vme monitor popcnt abm sse4a mmxext fxsr-opt pdpe1gb rdtscp 3dnowext 3dnow npt"},
	{"Opteron_G1-v1", AMD, "AMD Opteron 240 (Gen 1 Class Opteron)", 15, 6, 1, 0x5, 0x80000008,
	 "qemu64-v1", "vme -cx16 -lahf-lm -svm"},
	{"Opteron_G2-v1", AMD, "AMD Opteron 22xx (Gen 2 Class Opteron)", 15, 6, 1, 0x5, 0x80000008,
	 "qemu64-v1", "vme"},
	{"Opteron_G3-v1", AMD, "AMD Opteron 23xx (Gen 3 Class Opteron)", 16, 2, 3, 0x5, 0x80000008,
	 "Opteron_G2-v1", "monitor popcnt abm sse4a misalignsse rdtscp"},
	{"Opteron_G4-v1", AMD, "AMD Opteron 62xx class CPU", 21, 1, 2, 0xd, 0x8000001a,
	 "Opteron_G3-v1",
	 "pclmulqdq ssse3 sse4-1 sse4-2 aes xsave avx 3dnowprefetch xop fma4 pdpe1gb npt "
	 "nrip-save -monitor"},
	{"Opteron_G5-v1", AMD, "AMD Opteron 63xx class CPU", 21, 2, 0, 0xd, 0x8000001a,
	 "Opteron_G4-v1", "fma f16c tbm"},
	{"EPYC-v1", AMD, "AMD EPYC Processor", 23, 1, 2, 0xd, 0x8000001e, "Opteron_G5-v1",
	 "monitor movbe rdrand arat fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt "
	 "sha-ni xsaveopt xsavec xgetbv1 cr8legacy osvw topoext mmxext fxsr-opt -xop -fma4 -tbm"},
	{"EPYC-v2", AMD, "AMD EPYC Processor (with IBPB)", 23, 1, 2, 0xd, 0x8000001e, "EPYC-v1",
	 "ibpb"},
	{"EPYC-v3", AMD, "AMD EPYC Processor", 23, 1, 2, 0xd, 0x8000001e, "EPYC-v2",
	 "xsaves perfctr-core clzero xsaveerptr"},
	{"EPYC-v4", AMD, "AMD EPYC-v4 Processor", 23, 1, 2, 0xd, 0x8000001e, "EPYC-v3", ""},
	{"EPYC-Rome-v1", AMD, "AMD EPYC-Rome Processor", 23, 49, 0, 0xd, 0x8000001e, "EPYC-v3",
	 "clwb umip rdpid wbnoinvd amd-stibp"},
	{"EPYC-Rome-v2", AMD, "AMD EPYC-Rome Processor", 23, 49, 0, 0xd, 0x8000001e, "EPYC-Rome-v1",
	 "ibrs amd-ssbd"},
	{"EPYC-Rome-v3", AMD, "AMD EPYC-Rome-v3 Processor", 23, 49, 0, 0xd, 0x8000001e,
	 "EPYC-Rome-v2", ""},
	{"EPYC-Rome-v4", AMD, "AMD EPYC-Rome-v4 Processor (no XSAVES)", 23, 49, 0, 0xd, 0x8000001e,
	 "EPYC-Rome-v2", "-xsaves"},
	{"EPYC-Milan-v1", AMD, "AMD EPYC-Milan Processor", 25, 1, 1, 0xd, 0x8000001e,
	 "EPYC-Rome-v2", "pcid erms invpcid pku fsrm svme-addr-chk"},
	{"EPYC-Milan-v2", AMD, "AMD EPYC-Milan-v2 Processor", 25, 1, 1, 0xd, 0x80000021,
	 "EPYC-Milan-v1",
	 "vaes vpclmulqdq stibp-always-on amd-psfd no-nested-data-bp lfence-always-serializing "
	 "null-sel-clr-base"},
	{"EPYC-Genoa-v1", AMD, "AMD EPYC-Genoa Processor", 25, 17, 0, 0xd, 0x80000022,
	 "EPYC-Milan-v2",
	 "avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512vbmi avx512vbmi2 gfni "
	 "avx512vnni avx512bitalg avx512-vpopcntdq la57 avx512-bf16 vnmi auto-ibrs"},
	{"Dhyana-v1", HYGON, "Hygon Dhyana Processor", 24, 0, 1, 0xd, 0x8000001e, "EPYC-v2",
	 "-pclmulqdq -aes -sha-ni"},
	{"Dhyana-v2", HYGON, "Hygon Dhyana Processor", 24, 0, 1, 0xd, 0x8000001e, "Dhyana-v1",
	 "xsaves"},
	{.name = NULL},
};

static_assert(ARRAY_SIZE(cpu_models) <= CPU_MODELS_MAX, "room for all");

const struct cpu_model_alias cpu_model_aliases[] = {
	{"Broadwell", "Broadwell-v1"},
	{"Broadwell-IBRS", "Broadwell-v3"},
	{"Broadwell-noTSX", "Broadwell-v2"},
	{"Broadwell-noTSX-IBRS", "Broadwell-v4"},
	{"Cascadelake-Server", "Cascadelake-Server-v1"},
	{"Cascadelake-Server-noTSX", "Cascadelake-Server-v3"},
	{"ClearwaterForest", "ClearwaterForest-v1"},
	{"Conroe", "Conroe-v1"},
	{"Cooperlake", "Cooperlake-v1"},
	{"Denverton", "Denverton-v1"},
	{"Dhyana", "Dhyana-v1"},
	{"EPYC", "EPYC-v1"},
	{"EPYC-Genoa", "EPYC-Genoa-v1"},
	{"EPYC-IBPB", "EPYC-v2"},
	{"EPYC-Milan", "EPYC-Milan-v1"},
	{"EPYC-Rome", "EPYC-Rome-v1"},
	{"GraniteRapids", "GraniteRapids-v1"},
	{"Haswell", "Haswell-v1"},
	{"Haswell-IBRS", "Haswell-v3"},
	{"Haswell-noTSX", "Haswell-v2"},
	{"Haswell-noTSX-IBRS", "Haswell-v4"},
	{"Icelake-Server", "Icelake-Server-v1"},
	{"Icelake-Server-noTSX", "Icelake-Server-v2"},
	{"IvyBridge", "IvyBridge-v1"},
	{"IvyBridge-IBRS", "IvyBridge-v2"},
	{"KnightsMill", "KnightsMill-v1"},
	{"Nehalem", "Nehalem-v1"},
	{"Nehalem-IBRS", "Nehalem-v2"},
	{"Opteron_G1", "Opteron_G1-v1"},
	{"Opteron_G2", "Opteron_G2-v1"},
	{"Opteron_G3", "Opteron_G3-v1"},
	{"Opteron_G4", "Opteron_G4-v1"},
	{"Opteron_G5", "Opteron_G5-v1"},
	{"Penryn", "Penryn-v1"},
	{"SandyBridge", "SandyBridge-v1"},
	{"SandyBridge-IBRS", "SandyBridge-v2"},
	{"SapphireRapids", "SapphireRapids-v1"},
	{"SierraForest", "SierraForest-v1"},
	{"Skylake-Client", "Skylake-Client-v1"},
	{"Skylake-Client-IBRS", "Skylake-Client-v2"},
	{"Skylake-Client-noTSX-IBRS", "Skylake-Client-v3"},
	{"Skylake-Server", "Skylake-Server-v1"},
	{"Skylake-Server-IBRS", "Skylake-Server-v2"},
	{"Skylake-Server-noTSX-IBRS", "Skylake-Server-v3"},
	{"Snowridge", "Snowridge-v1"},
	{"Westmere", "Westmere-v1"},
	{"Westmere-IBRS", "Westmere-v2"},
	{"core2duo", "core2duo-v1"},
	{"kvm64", "kvm64-v1"},
	{"phenom", "phenom-v1"},
	{"qemu64", "qemu64-v1"},
	{.name = NULL},
};

/* As KVM's guests have it unless they are told otherwise. */
static const char cpu_defaults_on[] = "hypervisor x2apic";
static const char cpu_defaults_off[] = "acpi monitor svm";
static const char cpu_defaults_kvm[] = "kvmclock kvm-nopiodelay kvm-asyncpf kvm-steal-time "
				       "kvm-pv-eoi kvmclock-stable-bit";

static const struct cpu_model *cpu_model_version(const char *name)
{
	for (const struct cpu_model *model = cpu_models; model->name; model++) {
		if (!strcmp(model->name, name))
			return model;
	}
	return NULL;
}

const struct cpu_model *cpu_model_find(const char *name)
{
	for (const struct cpu_model_alias *alias = cpu_model_aliases; alias->name; alias++) {
		if (!strcmp(alias->name, name))
			return cpu_model_version(alias->version);
	}
	return cpu_model_version(name);
}

/* A name may stand for several bits of a register. */
static void cpu_features_change(struct cpu_features *features, const char *name, size_t length,
				bool on)
{
	size_t nr;
	const struct cpuid_names *named = cpuid_names(&nr);

	for (size_t i = 0; i < nr; i++) {
		for (unsigned int bit = 0; bit < 32; bit++) {
			const char *other = named[i].names[bit];

			if (!other || *other != *name || strncmp(other, name, length) ||
			    other[length])
				continue;
			features->words[i] &= ~(UINT32_C(1) << bit);
			features->words[i] |= (uint32_t)on << bit;
		}
	}
}

static void cpu_features_apply(struct cpu_features *features, const char *changes)
{
	while (*changes) {
		bool on = *changes != '-';
		size_t length;

		changes += !on;
		length = strcspn(changes, " ");
		cpu_features_change(features, changes, length, on);
		changes += length + (changes[length] == ' ');
	}
}

/* Features that are only where another one is. */
static const struct cpu_follower {
	struct cpu_bit {
		uint32_t leaf, subleaf;
		enum vm_cpuid_reg reg;
		unsigned int bit;
	} feature;
	uint32_t leaf, subleaf; /* the register that is empty without it */
	enum vm_cpuid_reg reg;
} cpu_followers[] = {
	{{0x80000001, 0, VM_CPUID_ECX, 2}, 0x8000000A, 0, VM_CPUID_EDX}, /* svm */
	{{0x1, 0, VM_CPUID_ECX, 26}, 0xD, 1, VM_CPUID_EAX},              /* xsave */
	{{0x7, 0, VM_CPUID_EDX, 29}, CPUID_ARCH_CAPABILITIES, 0, VM_CPUID_EAX},
};

bool cpu_features_has(const struct cpu_features *features, uint32_t leaf, uint32_t subleaf,
		      enum vm_cpuid_reg reg, unsigned int bit)
{
	return features->words[cpuid_names_row(leaf, subleaf, reg)] >> bit & 1;
}

void cpu_features_follow(struct cpu_features *features)
{
	for (size_t i = 0; i < ARRAY_SIZE(cpu_followers); i++) {
		const struct cpu_follower *f = &cpu_followers[i];

		if (!cpu_features_has(features, f->feature.leaf, f->feature.subleaf, f->feature.reg,
				      f->feature.bit))
			features->words[cpuid_names_row(f->leaf, f->subleaf, f->reg)] = 0;
	}
}

/* I1: there is one, and it stands before. */
static const struct cpu_model *cpu_model_like(const struct cpu_model *model)
{
	const struct cpu_model *like = model->like ? cpu_model_version(model->like) : NULL;

	assert(!model->like || (like && like < model));
	return like;
}

/* As deep as versions and generations follow one another. */
void cpu_model_own_features(const struct cpu_model *model, struct cpu_features *ret)
{
	const struct cpu_model *like = cpu_model_like(model);

	if (like)
		cpu_model_own_features(like, ret);
	else
		memset(ret, 0, sizeof(*ret));
	cpu_features_apply(ret, model->changes);
}

/* What is on, and what is off, unless somebody says otherwise. */
struct cpu_defaults {
	struct cpu_features on, off;
};

static void cpu_defaults_read(bool kvm, struct cpu_defaults *ret)
{
	memset(&ret->on, 0, sizeof(ret->on));
	memset(&ret->off, 0, sizeof(ret->off));
	cpu_features_apply(&ret->on, cpu_defaults_on);
	cpu_features_apply(&ret->off, cpu_defaults_off);
	if (kvm)
		cpu_features_apply(&ret->on, cpu_defaults_kvm);
}

static void cpu_defaults_apply(const struct cpu_defaults *defaults, struct cpu_features *features)
{
	for (size_t i = 0; i < CPUID_NAMES_MAX; i++)
		features->words[i] =
			(features->words[i] & ~defaults->off.words[i]) | defaults->on.words[i];
}

void cpu_model_features(const struct cpu_model *model, bool kvm, struct cpu_features *ret)
{
	struct cpu_defaults defaults;

	cpu_defaults_read(kvm, &defaults);
	cpu_model_own_features(model, ret);
	cpu_defaults_apply(&defaults, ret);
}

void cpu_models_features(bool kvm, struct cpu_features ret[CPU_MODELS_MAX])
{
	struct cpu_defaults defaults;
	size_t nr = 0;

	cpu_defaults_read(kvm, &defaults);
	for (; cpu_models[nr].name; nr++) {
		const struct cpu_model *like = cpu_model_like(&cpu_models[nr]);

		if (like)
			ret[nr] = ret[like - cpu_models];
		else
			memset(&ret[nr], 0, sizeof(ret[nr]));
		cpu_features_apply(&ret[nr], cpu_models[nr].changes);
	}
	while (nr)
		cpu_defaults_apply(&defaults, &ret[--nr]);
}
