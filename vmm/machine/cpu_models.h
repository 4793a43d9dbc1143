/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CPU models by name: what a guest is told of its processor, the same on each host that can give
 * it. Names, versions and values are QEMU's; what the features are is in Intel's SDM, volume 2,
 * and AMD's APM, volume 3, CPUID.
 *
 * A version (Haswell-v2) never changes. A name without one stands for a version, and so do the
 * names that were there before versions were (Haswell-noTSX). Models of processors without long
 * mode are not here: guests begin in it.
 *
 * I1  A model is said by what it has more, or less, than another one, which stands before it.
 * I2  Each name of a feature is one of cpuid_names().
 * I3  What any machine under KVM has in any model, or has only when it is asked for, is not the
 *     model's: cpu_model_features() has it in, cpu_model_own_features() has not.
 *
 * Threads: none; all of it is constant.
 */
#ifndef VMM_MACHINE_CPU_MODELS_H
#define VMM_MACHINE_CPU_MODELS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/cpuid_names.h"

struct cpu_model {
	const char *name;   /* with its version; NULL ends the table */
	const char *vendor; /* 12 letters */
	const char *id;     /* "model-id", the brand string: up to 48 */
	uint8_t family, model, stepping;
	uint32_t level, xlevel; /* the last leaf, and the last one above 0x80000000 */
	const char *like;       /* whose features it has; NULL: none */
	const char *changes;    /* words: NAME is added, -NAME taken away */
};

/* Bits of the registers with named features, in the order of cpuid_names(). */
struct cpu_features {
	uint32_t words[CPUID_NAMES_MAX];
};

#define CPU_MODELS_MAX 96 /* rows */

extern const struct cpu_model cpu_models[];

struct cpu_model_alias {
	const char *name; /* NULL ends the table */
	const char *version;
};

extern const struct cpu_model_alias cpu_model_aliases[];

/* By either kind of name; NULL when there is none. */
const struct cpu_model *cpu_model_find(const char *name);

/* What the table says of it. */
void cpu_model_own_features(const struct cpu_model *model, struct cpu_features *ret);

/*
 * What a guest has that is given no other word. @kvm: with KVM's own features. Nested
 * virtualization, MONITOR and ACPI's clock control are for who asks for them; what hangs on them is
 * still there, until cpu_features_follow().
 */
void cpu_model_features(const struct cpu_model *model, bool kvm, struct cpu_features *ret);
/* The same of each row, in less time. */
void cpu_models_features(bool kvm, struct cpu_features ret[CPU_MODELS_MAX]);

/* Take away what is nothing without a feature that is not there. */
void cpu_features_follow(struct cpu_features *features);
/* Of a register that has names. */
bool cpu_features_has(const struct cpu_features *features, uint32_t leaf, uint32_t subleaf,
		      enum vm_cpuid_reg reg, unsigned int bit);

/* Every name, for tables of names. */
/* clang-format off */
#define CPU_MODEL_NAMES(X) \
	X("Broadwell"), X("Broadwell-IBRS"), X("Broadwell-noTSX"), \
	X("Broadwell-noTSX-IBRS"), X("Broadwell-v1"), X("Broadwell-v2"), \
	X("Broadwell-v3"), X("Broadwell-v4"), X("Cascadelake-Server"), \
	X("Cascadelake-Server-noTSX"), X("Cascadelake-Server-v1"), \
	X("Cascadelake-Server-v2"), X("Cascadelake-Server-v3"), \
	X("Cascadelake-Server-v4"), X("Cascadelake-Server-v5"), X("ClearwaterForest"), \
	X("ClearwaterForest-v1"), X("Conroe"), X("Conroe-v1"), X("Cooperlake"), \
	X("Cooperlake-v1"), X("Cooperlake-v2"), X("core2duo"), X("core2duo-v1"), \
	X("Denverton"), X("Denverton-v1"), X("Denverton-v2"), X("Denverton-v3"), \
	X("Dhyana"), X("Dhyana-v1"), X("Dhyana-v2"), X("EPYC"), X("EPYC-Genoa"), \
	X("EPYC-Genoa-v1"), X("EPYC-IBPB"), X("EPYC-Milan"), X("EPYC-Milan-v1"), \
	X("EPYC-Milan-v2"), X("EPYC-Rome"), X("EPYC-Rome-v1"), X("EPYC-Rome-v2"), \
	X("EPYC-Rome-v3"), X("EPYC-Rome-v4"), X("EPYC-v1"), X("EPYC-v2"), X("EPYC-v3"), \
	X("EPYC-v4"), X("GraniteRapids"), X("GraniteRapids-v1"), X("GraniteRapids-v2"), \
	X("Haswell"), X("Haswell-IBRS"), X("Haswell-noTSX"), X("Haswell-noTSX-IBRS"), \
	X("Haswell-v1"), X("Haswell-v2"), X("Haswell-v3"), X("Haswell-v4"), \
	X("Icelake-Server"), X("Icelake-Server-noTSX"), X("Icelake-Server-v1"), \
	X("Icelake-Server-v2"), X("Icelake-Server-v3"), X("Icelake-Server-v4"), \
	X("Icelake-Server-v5"), X("Icelake-Server-v6"), X("Icelake-Server-v7"), \
	X("IvyBridge"), X("IvyBridge-IBRS"), X("IvyBridge-v1"), X("IvyBridge-v2"), \
	X("KnightsMill"), X("KnightsMill-v1"), X("kvm64"), X("kvm64-v1"), X("Nehalem"), \
	X("Nehalem-IBRS"), X("Nehalem-v1"), X("Nehalem-v2"), X("Opteron_G1"), \
	X("Opteron_G1-v1"), X("Opteron_G2"), X("Opteron_G2-v1"), X("Opteron_G3"), \
	X("Opteron_G3-v1"), X("Opteron_G4"), X("Opteron_G4-v1"), X("Opteron_G5"), \
	X("Opteron_G5-v1"), X("Penryn"), X("Penryn-v1"), X("phenom"), X("phenom-v1"), \
	X("qemu64"), X("qemu64-v1"), X("SandyBridge"), X("SandyBridge-IBRS"), \
	X("SandyBridge-v1"), X("SandyBridge-v2"), X("SapphireRapids"), \
	X("SapphireRapids-v1"), X("SapphireRapids-v2"), X("SapphireRapids-v3"), \
	X("SierraForest"), X("SierraForest-v1"), X("SierraForest-v2"), \
	X("Skylake-Client"), X("Skylake-Client-IBRS"), X("Skylake-Client-noTSX-IBRS"), \
	X("Skylake-Client-v1"), X("Skylake-Client-v2"), X("Skylake-Client-v3"), \
	X("Skylake-Client-v4"), X("Skylake-Server"), X("Skylake-Server-IBRS"), \
	X("Skylake-Server-noTSX-IBRS"), X("Skylake-Server-v1"), X("Skylake-Server-v2"), \
	X("Skylake-Server-v3"), X("Skylake-Server-v4"), X("Skylake-Server-v5"), \
	X("Snowridge"), X("Snowridge-v1"), X("Snowridge-v2"), X("Snowridge-v3"), \
	X("Snowridge-v4"), X("Westmere"), X("Westmere-IBRS"), X("Westmere-v1"), \
	X("Westmere-v2")
/* clang-format on */

#endif
