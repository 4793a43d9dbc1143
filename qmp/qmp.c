/* SPDX-License-Identifier: BSD-3-Clause */
/* The monitor for programs as a whole: see qmp.h. */
#include "qmp/qmp.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qmp/qmp_internal.h"

static int qmp_make(struct qmp *qmp, const struct qmp_config *config,
		    const struct qmp_module **modules, struct err **err)
{
	size_t count = 0;

	while (config->modules[count]) {
		modules[count] = config->modules[count];
		count++;
	}
	modules[count++] = &qmp_self_module;
	modules[count] = NULL;
	qmp->schema = schema_new(modules, err);
	if (!qmp->schema)
		return -EINVAL;
	qmp->human = human_new(qmp, modules, config, err);
	if (!qmp->human)
		return -EINVAL;
	qmp->package = strdup(config->package);
	qmp->events = qmp_events_new(qmp, config->uv);
	qmp->turns = qmp_turns_new(qmp, config->uv);
	if (!qmp->package || !qmp->events || !qmp->turns)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

struct qmp *qmp_new(const struct qmp_config *config, struct err **err)
{
	const struct qmp_module **modules;
	struct qmp *qmp = calloc(1, sizeof(*qmp));
	size_t count = 0;
	int ret;

	while (config->modules[count])
		count++;
	modules = calloc(count + 2, sizeof(*modules));
	if (!qmp || !modules) {
		free(qmp);
		free(modules);
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	qmp->ctx = config->ctx;
	qmp->major = config->major;
	qmp->minor = config->minor;
	qmp->micro = config->micro;
	qmp->bare = config->bare;
	qmp->missing = config->missing;
	ret = qmp_make(qmp, config, modules, err);
	free(modules);
	if (!ret)
		return qmp;
	qmp_free(qmp);
	return NULL;
}

void qmp_free(struct qmp *qmp)
{
	if (!qmp)
		return;
	assert(!qmp->sessions);
	qmp_events_free(qmp->events);
	qmp_turns_free(qmp->turns);
	human_free(qmp->human);
	schema_free(qmp->schema);
	free(qmp->package);
	free(qmp);
}

struct hmp *qmp_human(struct qmp *qmp)
{
	return human_hmp(qmp->human);
}

const struct schema *qmp_schema(const struct qmp *qmp)
{
	return qmp->schema;
}
