/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Types of what monitor commands take and give, and of what events carry: written down once as
 * short texts, used to check arguments, to introspect (query-qmp-schema), and by tests to check
 * what is answered.
 *
 * Members are words "name:type", "*name:type" when it may be left out. A type is
 *   str bool int number size uint8 uint16 uint32 uint64 int8 int16 int32 int64 null any
 * (sizes are in bytes; integers are checked against their width), the name of a struct qmp_type, or
 * [type] for a list. Behind a member may stand its features: "name:type!feature!feature".
 *
 * I1  All names that a schema refers to are found, and no name is there twice; schema_new() refuses
 *     others with a sentence, so a test that makes one checks the tables.
 * I2  Checking a value takes time and stack bounded by its size and SCHEMA_DEPTH_MAX.
 *
 * Ownership: tables are static data. Threads: a schema is immutable once made.
 */
#ifndef QMP_SCHEMA_H
#define QMP_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct command;
struct err;
struct schema;

/* Objects and lists inside each other in a value that can be checked. */
#define SCHEMA_DEPTH_MAX 64

enum qmp_kind {
	QMP_ENUM = 1,  /* members are values: "on off auto" */
	QMP_STRUCT,    /* members */
	QMP_UNION,     /* members, one of which, @tag, is an enum whose value chooses a variant */
	QMP_ALTERNATE, /* members are alternatives, told apart by their JSON type: "a:str b:Foo" */
};

struct qmp_type {
	const char *name; /* NULL ends a table */
	enum qmp_kind kind;
	const char *members;
	const char *tag;      /* QMP_UNION: a member of @members */
	const char *variants; /* QMP_UNION: "value:Struct ..."; a value without one adds nothing */
	const char *features; /* of the type: "feature feature"; NULL: none */
};

struct qmp_event {
	const char *name; /* NULL ends a table */
	const char *data; /* members; NULL: none */
	/*
	 * At least so many milliseconds from one to the next; what comes meanwhile is kept, the last
	 * one only, and sent when the time is over. 0: each is sent.
	 */
	unsigned int rate_ms;
	const char *key; /* a member of the data: each value of it has a time of its own; or NULL */
};

/* What one part of a monitor contributes; each array ends with a row without a name, or is NULL. */
struct qmp_module {
	const struct command *commands;
	const struct qmp_type *types;
	const struct qmp_event *events;
};

/* @modules: an array that ends with NULL. */
struct schema *schema_new(const struct qmp_module *const *modules, struct err **err);
/* NULL is allowed. */
void schema_free(struct schema *schema);

/*
 * Is @value of the type that @type spells ("str", "[Foo]"), or an object of these @members? @what
 * starts sentences. Unknown members are refused. -EINVAL with a sentence that names the member.
 */
int schema_check(const struct schema *schema, const char *what, const char *type,
		 const json_t *value, struct err **err);
int schema_check_members(const struct schema *schema, const char *what, const char *members,
			 const json_t *value, struct err **err);

/* What query-qmp-schema answers (SchemaInfo list); a new reference, NULL when memory is out. */
json_t *schema_introspect(const struct schema *schema);

const struct qmp_event *schema_event(const struct schema *schema, const char *name);
/* NULL when there is none; index from 0. For tests and lists. */
const struct command *schema_command(const struct schema *schema, const char *name);
const struct command *schema_command_at(const struct schema *schema, size_t index);

#endif
