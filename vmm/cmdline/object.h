/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Objects: their types and property tables, for -object and for commands that make or read them.
 *
 * I1  Every type is in one constant table; a parsed object has a type of it, an id, and values that
 *     are right as far as the object alone can tell.
 */
#ifndef VMM_CMDLINE_OBJECT_H
#define VMM_CMDLINE_OBJECT_H

#include <jansson.h>

#include "qmp/props.h"
#include "vmm/cmdline/config.h"
#include "vmm/cmdline/memdev.h"

struct err;

enum object_type {
	OBJECT_MEMORY_RAM,
	OBJECT_MEMORY_MEMFD,
	OBJECT_MEMORY_FILE,
	OBJECT_RNG_RANDOM,
	OBJECT_RNG_BUILTIN,
	OBJECT_SECRET,
	OBJECT_IOTHREAD
};

struct object_class {
	const char *name;
	enum object_type type;
	const char *help;
	const struct props *props; /* over struct object_config */
};

struct object_config {
	enum object_type type;
	char *id;
	union {
		struct memdev_options memdev;     /* its id stays NULL here */
		struct vm_rng_backend_config rng; /* likewise */
	};
};

/* What every object has. */
extern const struct props object_common_props;

/* Ends with a row without name. */
extern const struct object_class object_classes[];

/*
 * Read an object from its keys ("qom-type", "id", ...). @option starts sentences: "-object". On
 * success *ret_object is to be ended with object_config_done(); on failure it is untouched.
 */
int object_config_parse(const char *option, json_t *values, struct object_config *ret_object,
			struct err **err);
void object_config_done(struct object_config *object);
/*
 * Move @object into the configuration, as the last of its kind; it is to be ended all the same. -EEXIST
 * when there is an object of that id.
 */
int object_config_add(const char *option, struct object_config *object, struct vm_config *config,
		      struct err **err);

#endif
