/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of a schema share: schema.c (the tables, that they fit together), schema_parse.c
 * (members as text), schema_check.c (values), introspect.c (query-qmp-schema).
 */
#ifndef QMP_SCHEMA_INTERNAL_H
#define QMP_SCHEMA_INTERNAL_H

#include "qmp/schema.h"

/* "*name:type!feature": a member, an enum's value, a variant, or (the name alone) a feature. */
struct schema_member {
	char *name;
	char *type;      /* NULL: the word has no colon */
	char **features; /* ends with NULL; NULL: none */
	bool optional;
};

struct schema_members {
	struct schema_member *list;
	size_t count;
};

struct schema_type {
	const struct qmp_type *def;
	struct schema_members members, variants, features;
};

/* Arguments of a command, data of an event: members, or those of a type. */
struct schema_data {
	const struct schema_type *type; /* NULL: @members */
	struct schema_members members;
	bool open; /* further members are allowed, of any type: they are not looked at */
};

struct schema_command {
	const struct command *def;
	struct schema_data args;
	struct schema_members features;
};

struct schema_event {
	const struct qmp_event *def;
	struct schema_data data;
};

/* Each sorted by name. */
struct schema {
	struct schema_type *types;
	struct schema_command *commands;
	struct schema_event *events;
	size_t nr_types, nr_commands, nr_events;
};

enum schema_builtin_kind {
	SCHEMA_STR,
	SCHEMA_BOOL,
	SCHEMA_INT,
	SCHEMA_NUMBER,
	SCHEMA_NULL,
	SCHEMA_ANY,
};

struct schema_builtin {
	const char *name;
	enum schema_builtin_kind kind;
	json_int_t min, max; /* SCHEMA_INT */
	const char *spelled; /* in sentences: "Parameter 'x' expects uint8_t" */
};

/* schema_parse.c */

/* Words separated by blanks; @text may be NULL. After a failure there is nothing to be done with. */
int schema_members_parse(const char *text, struct schema_members *ret_members, struct err **err);
void schema_members_done(struct schema_members *members);
const struct schema_member *schema_members_find(const struct schema_members *members,
						const char *name);

/* schema.c */

/* @size bytes of @name, which need not end there. */
const struct schema_builtin *schema_builtin_find(const char *name, size_t size);
const struct schema_type *schema_type_find(const struct schema *schema, const char *name,
					   size_t size);
const struct schema_command *schema_command_find(const struct schema *schema, const char *name);
/* The variant that @value of a union's tag chooses; NULL: it adds nothing. */
const struct schema_type *schema_variant(const struct schema *schema,
					 const struct schema_type *type, const char *value);
/* Strip a list's brackets from a type's text. False: it is no list. */
bool schema_list_element(const char **type, size_t *size);

/* schema_check.c */
int schema_check_data(const struct schema *schema, const char *what, const struct schema_data *data,
		      const json_t *value, struct err **err);
/* JSON types that a value of this type may be; bits 1 << json_type. */
unsigned int schema_json_types(const struct schema *schema, const char *type);

#endif
