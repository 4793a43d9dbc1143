/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Property tables: what keys an option, an object or a device has, which values they take, and
 * where in a struct they are kept. One table serves the command line, hot-plug commands, reading
 * and writing of single properties, and the help texts.
 *
 * I1  A table is constant data. Its defaults are valid values of it (asserted when applied).
 * I2  A value is stored only after it was checked completely; a failed call leaves each property
 *     with either its old or its new value.
 * I3  Values may be JSON of the property's own type, or strings in the spelling of the command
 *     line; both are checked by the same rules.
 *
 * Ownership: strings and lists in the target are the target's; props_done() frees them.
 * Threads: none; the caller serialises access to a target.
 */
#ifndef QMP_PROPS_H
#define QMP_PROPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"

enum prop_type {
	PROP_BOOL,        /* bool: on/yes/true/y, off/no/false/n */
	PROP_ON_OFF_AUTO, /* an enum with auto = 0, on = 1, off = 2 */
	PROP_ENUM,        /* an enum: index into names */
	PROP_UINT,        /* uint8_t to uint64_t */
	PROP_SIZE,        /* uint64_t, bytes */
	PROP_STRING,      /* char * */
	PROP_ID,          /* char *: a letter, then letters, digits, '-', '.', '_' */
	PROP_PCI_ADDR,    /* uint8_t slot, and uint8_t function at second: "2", "0x1f.7" */
	PROP_UINT16_LIST, /* uint16_t *, and size_t count at second: 0, 0-3, lists of these; sorted
			   */
	PROP_UUID,        /* uint8_t[16] */
};

#define PROP_REQUIRED 1u
#define PROP_READONLY 2u  /* listed, readable, never set */
#define PROP_POW2     4u  /* PROP_SIZE: a power of two */
#define PROP_EMPTY    8u  /* PROP_STRING: may be "" */
#define PROP_SILENT   16u /* accepted for compatibility: not listed in sentences, only in help */

struct prop {
	const char *name;
	enum prop_type type;
	unsigned int flags;
	size_t offset;
	size_t width;      /* bytes of the field; 0: checked, then forgotten */
	size_t second;     /* offset of the second field of the types that have one */
	size_t given;      /* 1 + offset of a bool to set when a value is set; 0: none */
	uint64_t min, max; /* PROP_UINT, PROP_SIZE, items of a list; max 0: what the field holds */
	uint64_t align;    /* PROP_SIZE: a divisor; 0: none */
	uint64_t unit;     /* PROP_SIZE: bytes that a number without a unit counts; 0: 1 */
	const char *const *names; /* PROP_ENUM: ends with NULL */
	const char *defval;       /* spelling of the default; NULL: the field is left alone */
	const char *refused;      /* a value that is known but not possible ("*": any), */
	const char *why;          /* and the reason, to stand behind "is not possible: " */
	const char *help;
};

#define PROP_FIELD(type, field)  .offset = offsetof(type, field), .width = sizeof(((type *)0)->field)
#define PROP_SECOND(type, field) .second = offsetof(type, field)
#define PROP_GIVEN(type, field)  .given = offsetof(type, field) + 1

struct props {
	const struct props *base; /* more properties of the same target; may be NULL */
	const struct prop *list;
	size_t count;
};

/* NULL when there is none of that name. */
const struct prop *props_find(const struct props *table, const char *name);

/*
 * Write the defaults. @target must be zeroed, or done with. 0, or -ENOMEM with everything that was
 * written valid for props_done().
 */
int props_init(const struct props *table, void *target);

/*
 * Set every property that the object @values names, then check that what is required was given.
 * @what starts sentences ("-device virtio-mem-pci"). After a failure (-EINVAL, -ERANGE, -ENOMEM)
 * some properties may be set.
 */
int props_apply(const struct props *table, const char *what, const json_t *values, void *target,
		struct err **err);

/* Set one property; see props_apply(). */
int props_set(const struct props *table, const char *what, const char *name, const json_t *value,
	      void *target, struct err **err);

/* The value of a property as JSON, a new reference; NULL when memory is out or nothing is kept. */
json_t *props_get(const struct prop *prop, const void *target);

/* Free what the target's strings and lists hold, and forget them. Other fields stay. */
void props_done(const struct props *table, void *target);

/* One line a property: name, type, help, default. NULL when memory is out; to be freed. */
char *props_help(const struct props *table);

/* All names in order, separated by ", "; without read-only and silent ones. As above. */
char *props_names(const struct props *table);

/* Is @text a well-formed id? */
bool props_id_valid(const char *text);

#endif
