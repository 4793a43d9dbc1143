/* SPDX-License-Identifier: BSD-3-Clause */
/* -object: memory backends, random sources, and what is accepted for compatibility. */
#include "vmm/cmdline/object.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/opts.h"
#include "qmp/size.h"
#include "vmm/cmdline/internal.h"

#define FIELD(field) PROP_FIELD(struct object_config, field)

static const struct prop common_list[] = {
	{.name = "id",
	 .type = PROP_ID,
	 .flags = PROP_REQUIRED,
	 FIELD(id),
	 .help = "the name that others refer to"},
};
const struct props object_common_props = {NULL, common_list, ARRAY_SIZE(common_list)};

static const struct prop rng_random_list[] = {
	{.name = "filename",
	 .type = PROP_STRING,
	 FIELD(rng.filename),
	 .defval = "/dev/urandom",
	 .help = "file that random bytes are read from"},
};
static const struct props rng_random_props = {&object_common_props, rng_random_list,
					      ARRAY_SIZE(rng_random_list)};

/* Nothing in this version takes a secret; what is in it is forgotten at once. */
#define SECRET(key)                                                                      \
	{                                                                                \
		.name = key, .type = PROP_STRING, .flags = PROP_EMPTY, .help = "ignored" \
	}
static const struct prop secret_list[] = {SECRET("data"), SECRET("file"), SECRET("format"),
					  SECRET("keyid"), SECRET("iv")};
static const struct props secret_props = {&object_common_props, secret_list,
					  ARRAY_SIZE(secret_list)};

/* How the threads of disks are to be run: there are none. */
#define IOTHREAD(key)                                                               \
	{                                                                           \
		.name = key, .type = PROP_UINT, .max = INT64_MAX, .help = "ignored" \
	}
static const struct prop iothread_list[] = {
	IOTHREAD("poll-max-ns"),   IOTHREAD("poll-grow"),       IOTHREAD("poll-shrink"),
	IOTHREAD("aio-max-batch"), IOTHREAD("thread-pool-min"), IOTHREAD("thread-pool-max"),
};
static const struct props iothread_props = {&object_common_props, iothread_list,
					    ARRAY_SIZE(iothread_list)};

const struct object_class object_classes[] = {
	{"memory-backend-ram", OBJECT_MEMORY_RAM, "anonymous memory", &memdev_ram_props},
	{"memory-backend-memfd", OBJECT_MEMORY_MEMFD, "memory of a file without a name",
	 &memdev_memfd_props},
	{"memory-backend-file", OBJECT_MEMORY_FILE, "memory of a file", &memdev_file_props},
	{"rng-random", OBJECT_RNG_RANDOM, "random bytes from a file", &rng_random_props},
	{"rng-builtin", OBJECT_RNG_BUILTIN, "random bytes from the host's kernel",
	 &object_common_props},
	{"secret", OBJECT_SECRET, "accepted and ignored", &secret_props},
	{"iothread", OBJECT_IOTHREAD, "accepted; nothing runs on it", &iothread_props},
	{NULL, 0, NULL, NULL},
};

static const struct object_class *object_class_find(const char *name)
{
	for (const struct object_class *class = object_classes; class->name; class ++) {
		if (!strcmp(class->name, name))
			return class;
	}
	return NULL;
}

static int object_class_unknown(const char *option, const char *name, struct err **err)
{
	char list[256];
	size_t len = 0;

	for (const struct object_class *class = object_classes; class->name; class ++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", len ? ", " : "",
					class->name);
	return err_set(err, EINVAL, "%s: qom-type=%s is unknown; allowed: %s", option, name, list);
}

static bool object_is_memdev(enum object_type type)
{
	return type == OBJECT_MEMORY_RAM || type == OBJECT_MEMORY_MEMFD ||
	       type == OBJECT_MEMORY_FILE;
}

static enum vm_memdev_type object_memdev_type(enum object_type type)
{
	if (type == OBJECT_MEMORY_MEMFD)
		return VM_MEMDEV_MEMFD;
	return type == OBJECT_MEMORY_FILE ? VM_MEMDEV_FILE : VM_MEMDEV_RAM;
}

int object_config_parse(const char *option, json_t *values, struct object_config *ret_object,
			struct err **err)
{
	const char *name = opts_string(values, "qom-type");
	const struct object_class *class;
	struct object_config object = {0};
	char what[CMDLINE_WHAT_MAX];
	int ret;

	if (!name)
		return err_set(err, EINVAL, "%s: needs qom-type=, the type of the object", option);
	class = object_class_find(name);
	if (!class)
		return object_class_unknown(option, name, err);
	object.type = class->type;
	cmdline_what(what, option, class->name, opts_string(values, "id"));
	json_object_del(values, "qom-type");
	if (props_init(class->props, &object) < 0)
		ret = cmdline_oom(err);
	else
		ret = props_apply(class->props, what, values, &object, err);
	if (!ret)
		ret = cmdline_check_id(what, object.id, err);
	if (!ret && object_is_memdev(object.type))
		ret = memdev_complete(what, object_memdev_type(object.type), &object.memdev, err);
	if (ret < 0)
		object_config_done(&object);
	else
		*ret_object = object;
	return ret;
}

void object_config_done(struct object_config *object)
{
	free(object->id);
	object->id = NULL;
	if (object_is_memdev(object->type))
		memdev_options_done(&object->memdev);
	if (object->type == OBJECT_RNG_RANDOM) {
		free(object->rng.filename);
		object->rng.filename = NULL;
	}
}

static int object_add_memdev(struct vm_config *config, struct object_config *object,
			     struct err **err)
{
	struct vm_memdev_config *memdev;

	memdev = cmdline_part_add(&config->memdevs, &config->nr_memdevs, sizeof(*memdev));
	if (!memdev)
		return cmdline_oom(err);
	*memdev = object->memdev.config;
	memdev->id = object->id;
	object->memdev.config.mem_path = NULL;
	memdev_options_done(&object->memdev);
	return 0;
}

static int object_add_rng(struct vm_config *config, struct object_config *object, struct err **err)
{
	struct vm_rng_backend_config *rng;

	rng = cmdline_part_add(&config->rngs, &config->nr_rngs, sizeof(*rng));
	if (!rng)
		return cmdline_oom(err);
	if (object->type == OBJECT_RNG_RANDOM)
		rng->filename = object->rng.filename;
	rng->id = object->id;
	return 0;
}

static int object_add_iothread(struct vm_config *config, struct object_config *object,
			       struct err **err)
{
	struct vm_iothread_config *iothread;

	iothread = cmdline_part_add(&config->iothreads, &config->nr_iothreads, sizeof(*iothread));
	if (!iothread)
		return cmdline_oom(err);
	iothread->id = object->id;
	return 0;
}

static int object_add_secret(struct vm_config *config, struct object_config *object,
			     struct err **err)
{
	struct vm_secret_config *secret;

	secret = cmdline_part_add(&config->secrets, &config->nr_secrets, sizeof(*secret));
	if (!secret)
		return cmdline_oom(err);
	secret->id = object->id;
	return 0;
}

int object_config_add(const char *option, struct object_config *object, struct vm_config *config,
		      struct err **err)
{
	int ret = 0;

	if (cmdline_object_exists(config, object->id))
		return err_set(err, EEXIST, "%s: id=%s is in use already", option, object->id);
	switch (object->type) {
	case OBJECT_MEMORY_RAM:
	case OBJECT_MEMORY_MEMFD:
	case OBJECT_MEMORY_FILE:
		ret = object_add_memdev(config, object, err);
		break;
	case OBJECT_RNG_RANDOM:
	case OBJECT_RNG_BUILTIN:
		ret = object_add_rng(config, object, err);
		break;
	case OBJECT_IOTHREAD:
		ret = object_add_iothread(config, object, err);
		break;
	case OBJECT_SECRET:
		ret = object_add_secret(config, object, err);
		break;
	}
	if (!ret)
		*object = (struct object_config){.type = OBJECT_SECRET}; /* owns nothing */
	return ret;
}

bool cmdline_object_exists(const struct vm_config *config, const char *id)
{
	bool found = memdev_find(config, id) != NULL;

	for (size_t i = 0; i < config->nr_rngs; i++)
		found |= !strcmp(config->rngs[i]->id, id);
	for (size_t i = 0; i < config->nr_iothreads; i++)
		found |= !strcmp(config->iothreads[i]->id, id);
	for (size_t i = 0; i < config->nr_secrets; i++)
		found |= !strcmp(config->secrets[i]->id, id);
	return found;
}

static int object_help(struct vm_config *config, const char *name, struct err **err)
{
	const struct object_class *one = name ? object_class_find(name) : NULL;
	char *text = NULL, *props;
	size_t size;
	FILE *out;

	if (one) {
		props = props_help(one->props);
		if (props &&
		    asprintf(&text, "%s: %s\nProperties:\n%s", one->name, one->help, props) < 0)
			text = NULL;
		free(props);
	} else {
		out = open_memstream(&text, &size);
		if (out) {
			fprintf(out, "Objects:\n");
			for (const struct object_class *class = object_classes; class->name;
			     class ++)
				fprintf(out, "  %-20s  %s\n", class->name, class->help);
			fclose(out);
		}
	}
	config->output = text;
	return text ? 0 : cmdline_oom(err);
}

int cmdline_object(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	struct object_config object;
	const char *type;
	json_t *values;
	int ret;

	ret = opts_parse(option, arg, "qom-type", OPTS_JSON | OPTS_LISTS, &values, err);
	if (ret < 0)
		return ret;
	type = opts_string(values, "qom-type");
	if (type && opts_wants_help(values, "qom-type") &&
	    (object_class_find(type) || !json_object_get(values, "help"))) {
		ret = object_help(cl->config, type, err);
		json_decref(values);
		return ret;
	}
	ret = object_config_parse(option, values, &object, err);
	json_decref(values);
	if (ret < 0)
		return ret;
	ret = object_config_add(option, &object, cl->config, err);
	object_config_done(&object);
	return ret;
}
