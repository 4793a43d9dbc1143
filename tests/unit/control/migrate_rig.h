/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands of migrations with a migration that is made up: what it was asked for is kept, how it
 * is is said by the test. Commands go through real sessions, a program's and a person's.
 */
#ifndef TESTS_UNIT_CONTROL_MIGRATE_RIG_H
#define TESTS_UNIT_CONTROL_MIGRATE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>

#include "vmm/control/migrate.h"

struct rig;

/* A migration half way. */
extern const struct migration_info rig_half;

/* For cmocka: *state is a struct rig. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* The next calls of the migration fail like that; 0: they succeed. */
void rig_fail(struct rig *rig, int code, const char *sentence);
/* "start tcp:x resume", "cancel" ...: what was called last. */
const char *rig_called(const struct rig *rig);
/* How it is from now on; told to who asked to be told. */
void rig_set(struct rig *rig, const struct migration_info *info);
void rig_set_status(struct rig *rig, enum migration_status status, const char *error);
void rig_pass(struct rig *rig, uint64_t pass);
struct migration_params *rig_params(struct rig *rig);
uint32_t *rig_capabilities(struct rig *rig);
struct vm_config *rig_config(struct rig *rig);

/*
 * A command of programs; @args is JSON with ' for ". What it returns, or {"class", "desc"} of its
 * error; compared with @want, JSON likewise.
 */
void rig_ask(struct rig *rig, const char *command, const char *args, const char *want);
/* The events since this was called last, without their times: "NAME {data}" and a newline each. */
void rig_events(struct rig *rig, const char *want);
/* What a line prints for programs that run it. */
void rig_prints(struct rig *rig, const char *line, const char *want);
/* A person at a terminal types; what there is on it since this was called last. */
void rig_type(struct rig *rig, const char *keys);
void rig_sees(struct rig *rig, const char *want);
/* Let the loop do what is due now. */
void rig_turn(struct rig *rig);
/* The person leaves. */
void rig_leave(struct rig *rig);
/* The machine ends. */
void rig_end(struct rig *rig);

#endif
