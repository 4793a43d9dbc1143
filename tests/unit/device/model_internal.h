/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the model (model.h) know of each other. */
#ifndef TESTS_DEVICE_MODEL_INTERNAL_H
#define TESTS_DEVICE_MODEL_INTERNAL_H

#include "tests/unit/device/model.h"

/* The host that the engine of a struct model calls. */
extern const struct vmem_host_ops model_host_ops;

/* Records the first thing wrong. Always false, so that checks may return it. */
__attribute__((format(printf, 2, 3))) bool model_wrong(struct model *m, const char *fmt, ...);

uint64_t model_plugged_blocks(const struct model *m);
/* One block as the STATE request sees it; beyond the usable region nothing is plugged. */
bool model_state_plugged(struct model *m, uint64_t block);
/* Everything that can be asked of the engine; false when it was wrong before. */
bool model_check_all(struct model *m);

#endif
