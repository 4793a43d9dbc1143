/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The object tree: what there is, each thing under a path, with properties to read and some to set.
 *
 *     /machine                    the machine, MACHINE-machine
 *       /peripheral/ID            a device with an id
 *       /peripheral-anon/device[N]    one without
 *         /virtio-backend         the device behind the transport
 *       /unattached/device[N]     CPU N
 *       /q35/pcie.0 (/i440fx/pci.0)   the PCI root bus
 *     /objects/ID                 what -object made
 *     /chardevs/ID                a character device
 *
 * No node is kept: the configuration and the devices say what there is, and a node is a view of one
 * of their parts. Properties come from the tables that the command line reads them with; a class
 * has rows over these for what a table does not know (its name in listings, the present value).
 *
 *     qom.c                           commands
 *     qom_tree.c, qom_path.c          nodes and their paths, and from a path to a node
 *     qom_class.c                     the classes
 *     qom_rows.c, qom_rows_device.c, qom_rows_cpu.c   what their rows read and set
 *     qom_props.c                     properties of a class and of a node
 *     qom_types.c, qom_options.c      commands about types and about the command line
 *     qom_show.c                      info qom-tree, info qtree
 *
 * I1  What qom_child_at() gives of a node is what qom_resolve() finds below it; each node has one
 *     path, qom_path().
 * I2  Every property that is listed of a node can be read.
 * I3  Only a row with set() can be set. What is set is checked first; a refusal changes nothing.
 * I4  A command's time is bounded by what there is, whatever path a client sends.
 *
 * Ownership: a node points into the configuration and lives no longer than its part: use it within
 * one command. Threads: the main loop's only.
 */
#ifndef VMM_CONTROL_QOM_H
#define VMM_CONTROL_QOM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "qmp/command.h"
#include "qmp/props.h"
#include "vmm/cmdline/config.h"

struct err;
struct qom_node;
struct vm;
struct vm_device_config;
struct vm_memdev_config;
struct vm_memory_device;
struct vm_rng_backend_config;

/* Ancestors of a class, itself included. */
#define QOM_DEPTH_MAX 8

/* A property that is no more than a line of a table. */
struct qom_row {
	const char *name; /* NULL ends a list */
	const char *type; /* in listings */
	const char *help; /* NULL: the table's */
	/* Of the type, as JSON; NULL: the table's default, if it has one. */
	const char *defval;
	/*
	 * A new reference, NULL when memory is out. Without: the table's value; where there is none
	 * of that name the row is of the class only, and names a child.
	 */
	json_t *(*get)(const struct qom_node *node);
	int (*set)(const struct qom_node *node, const json_t *value, struct err **err);
};

#define QOM_ABSTRACT 1u /* only a parent of others */

struct qom_class {
	const char *name;   /* NULL ends the list */
	const char *parent; /* NULL: it is "object" */
	unsigned int flags; /* QOM_* */
	/*
	 * Properties as the command line reads them; NULL: those of the device or object of the
	 * class's name, if there is one, or of @like: then only its own, not those of the transport
	 * that its table builds on.
	 */
	const struct props *table;
	const char *like;
	const struct qom_row *rows; /* NULL: none */
	const char *hidden; /* words: what in the table is no property here; NULL: nothing */
};

extern const struct qom_class qom_classes[];

/* NULL when there is none. */
const struct qom_class *qom_class_find(const char *name);
const struct qom_class *qom_class_parent(const struct qom_class *class);
/* Is it @ancestor or derived from it? */
bool qom_class_is(const struct qom_class *class, const char *ancestor);
/* NULL when it has none. */
const struct props *qom_class_table(const struct qom_class *class);
/* Is @name of its table no property? */
bool qom_class_hides(const struct qom_class *class, const char *name);

/* Of a CPU model by name: "host-x86_64-cpu". Returns @class. */
#define QOM_CPU_CLASS_BYTES 48
const char *qom_cpu_class(const char *model, char class[QOM_CPU_CLASS_BYTES]);

/* ---- nodes ---- */

enum qom_kind {
	QOM_ROOT,
	QOM_OBJECTS,
	QOM_CHARDEVS,
	QOM_MACHINE,
	QOM_PERIPHERAL,
	QOM_PERIPHERAL_ANON,
	QOM_UNATTACHED,
	QOM_SYSTEM_BUS,
	QOM_ISA_BUS,
	QOM_HOST_BRIDGE,
	QOM_ROOT_BUS,
	QOM_CPU,         /* index */
	QOM_DEVICE_NODE, /* struct vm_device_config; index among those without id */
	QOM_BACKEND,     /* likewise: behind the virtio transport */
	QOM_VIRTIO_BUS,  /* likewise */
	QOM_PORT_BUS,    /* likewise */
	QOM_MEMDEV,      /* struct vm_memdev_config */
	QOM_RNG,         /* struct vm_rng_backend_config */
	QOM_IOTHREAD,    /* struct vm_iothread_config */
	QOM_SECRET,      /* struct vm_secret_config */
	QOM_CHARDEV,     /* struct vm_chardev_config */
};

struct qom_node {
	struct vm *vm;
	enum qom_kind kind;
	const struct qom_class *class;
	const void *part;
	unsigned int index;
};

#define QOM_NAME_BYTES 32

struct qom_child {
	const char *id; /* the part's; NULL: the name is @text */
	char text[QOM_NAME_BYTES];
	struct qom_node node;
};

const char *qom_child_name(const struct qom_child *child);

struct qom_node qom_root(struct vm *vm);
bool qom_node_equal(const struct qom_node *a, const struct qom_node *b);
/* False behind the last. */
bool qom_child_at(const struct qom_node *node, size_t index, struct qom_child *ret_child);
/* In the order of the names; *ret_count of them. NULL when memory is out. */
struct qom_child *qom_children_sorted(const struct qom_node *node, size_t *ret_count);
/* To be freed; NULL when memory is out. */
char *qom_path(const struct qom_node *node);
/* The same as a JSON string. */
json_t *qom_path_json(const struct qom_node *node);

enum qom_found { QOM_NOT_FOUND, QOM_FOUND, QOM_AMBIGUOUS };

/*
 * A path from the root, or the end of one: "vm0/virtio-backend". Links (memdev) lead on.
 * *ret_node is written when it is found.
 */
enum qom_found qom_resolve(struct vm *vm, const char *path, struct qom_node *ret_node);

/* The bus that a device, or what is behind it, is on. False where there is none. */
bool qom_bus_of(const struct qom_node *node, struct qom_node *ret_bus);
struct qom_node qom_cpu(struct vm *vm, unsigned int index);
struct qom_node qom_device(struct vm *vm, const struct vm_device_config *device);
struct qom_node qom_memdev(struct vm *vm, const struct vm_memdev_config *memdev);
struct qom_node qom_rng(struct vm *vm, const struct vm_rng_backend_config *rng);
/* The running device of a virtio-mem node or of what is behind it. */
const struct vm_memory_device *qom_memory_device(const struct qom_node *node);

/* ---- properties ---- */

struct qom_prop {
	const char *name;
	const char *type;
	const char *help;          /* may be NULL */
	const struct prop *line;   /* of the class's table; NULL: only a row */
	const struct qom_row *row; /* NULL: only a line */
};

/* A walk through a class's properties. */
struct qom_props {
	const struct qom_class *class;
	const struct qom_class *chain[QOM_DEPTH_MAX]; /* whose rows are still to come, last first */
	size_t depth;
	const struct props *table; /* whose lines come then */
	size_t index;              /* of a row, then of a line */
};

/* Those of the ancestors come first. */
void qom_props_start(struct qom_props *props, const struct qom_class *class);
bool qom_props_next(struct qom_props *props, struct qom_prop *ret_prop);
bool qom_prop_find(const struct qom_class *class, const char *name, struct qom_prop *ret_prop);
/* Has the node a value of it? */
bool qom_prop_is_readable(const struct qom_node *node, const struct qom_prop *prop);
/* A new reference; NULL when memory is out. Of a readable property. */
json_t *qom_prop_get(const struct qom_node *node, const struct qom_prop *prop);
/* In the class's listings; NULL where there is none. */
json_t *qom_prop_default(const struct qom_prop *prop);
/* What a person typed, in the spelling of the command line, as JSON of the property's own type. */
int qom_prop_parse(const struct qom_prop *prop, const char *text, json_t **ret_value,
		   struct err **err);

/* By path and name, with QEMU's errors. A child or link reads as its path. */
int qom_get(struct vm *vm, const char *path, const char *name, json_t **ret_value,
	    struct err **err);
int qom_set(struct vm *vm, const char *path, const char *name, const json_t *value,
	    struct err **err);
int qom_find(struct vm *vm, const char *path, struct qom_node *ret_node, struct err **err);

/* {"name", "type", "description", "default-value"}; what is NULL is left out, @defval is taken. */
json_t *qom_prop_info(const char *name, const char *type, const char *help, json_t *defval);

/* ---- the rows of classes: qom_rows.c, qom_rows_device.c, qom_rows_cpu.c ---- */

extern const struct qom_row qom_object_rows[], qom_machine_rows[], qom_memdev_rows[],
	qom_memfd_rows[], qom_file_rows[], qom_chardev_socket_rows[];
extern const struct qom_row qom_device_rows[], qom_cpu_rows[], qom_pci_rows[],
	qom_virtio_pci_rows[], qom_root_port_rows[], qom_virtio_rows[], qom_virtio_mem_rows[],
	qom_virtio_rng_rows[], qom_virtio_balloon_rows[], qom_isa_serial_rows[];

/* "" for NULL. What is no UTF-8 (the name of a file may be anything) has '?' for the odd bytes. */
json_t *qom_text(const char *text);

/* ---- handlers of rows in qom.c ---- */

int qom_run_list_types(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err);
int qom_run_list_properties(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err);
int qom_run_device_list_properties(struct command_call *call, const json_t *args,
				   json_t **ret_value, struct err **err);
int qom_run_options(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err);
int qom_show_tree(struct command_call *call, const json_t *args, json_t **ret_value,
		  struct err **err);
int qom_show_qtree(struct command_call *call, const json_t *args, json_t **ret_value,
		   struct err **err);

#endif
