/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory backends under test: configurations as the command line makes them, and checks. */
#ifndef TESTS_UNIT_VM_MEMDEV_TEST_H
#define TESTS_UNIT_VM_MEMDEV_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/vm/mapping.h"
#include "vmm/vm/memdev.h"

#define SIZE (8 * MIB)

/* Much more than the host has; the thread sanitizer keeps most addresses for itself. */
#if defined(__SANITIZE_THREAD__)
#define HUGE (64 * GIB)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HUGE (64 * GIB)
#endif
#endif
#ifndef HUGE
#define HUGE (16 * TIB)
#endif

/* A backend with nothing but SIZE, and the defaults of its type. */
struct vm_memdev_config config_of(enum vm_memdev_type type, enum vm_memdev_user user);
struct vm_memdev_config file_of(const char *path, enum vm_memdev_user user);
/* It has to be possible. */
void map(struct memdev *m, const struct vm_memdev_config *config);
/* Mapping fails with this code and a sentence that has @words in it, and leaves nothing behind. */
void check_refused(const struct vm_memdev_config *config, int code, const char *words);

bool is_there(const char *path);

/* For cmocka_run_group_tests(): the tests run in a folder of their own, and leave it empty. */
int folder_setup(void **state);
int folder_teardown(void **state);

#endif
