/* SPDX-License-Identifier: BSD-3-Clause */
/* Defaults and ranges of what a migration may be told about itself (migration.h). */
#ifndef VMM_MIGRATION_PARAMS_H
#define VMM_MIGRATION_PARAMS_H

#include "vmm/migration/migration.h"

extern const struct migration_params migration_params_default;

/* -EINVAL; the sentence names the parameter, its value, and what is allowed. */
int migration_params_check(const struct migration_params *params, struct err **err);
int migration_capabilities_check(uint32_t capabilities, struct err **err);

#endif
