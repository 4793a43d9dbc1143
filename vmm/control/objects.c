/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parts that come and go: objects, character devices, and the descriptors that clients send along for
 * them.
 *
 * I1  What programs give and what people type ends in the same keys, checked by the same tables.
 * I2  A descriptor that a command took is closed or kept, also where the command fails.
 */
#include <errno.h>
#include <unistd.h>

#include "base/err.h"
#include "qmp/opts.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/vm/fds.h"
#include "vmm/vm/vm_objects.h"

static struct vm *objects_vm(struct command_call *call)
{
	struct control *control = command_ctx(call);

	return control->vm;
}

/* ---- objects ---- */

static int objects_add(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	(void)ret_value;
	return vm_object_add(objects_vm(call), args, err);
}

/* People write an object as after -object, a character device as after -chardev. */
static int objects_add_human(struct command_call *call, const json_t *args, json_t **ret_value,
			     struct err **err)
{
	json_t *values;
	int ret = opts_parse("object_add", control_text(args, "object"), "qom-type",
			     OPTS_JSON | OPTS_LISTS, &values, err);

	(void)ret_value;
	if (ret)
		return ret;
	ret = vm_object_add(objects_vm(call), values, err);
	json_decref(values);
	return ret;
}

static int objects_del(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	(void)ret_value;
	return vm_object_del(objects_vm(call), control_text(args, "id"), err);
}

/* ---- character devices ---- */

static int objects_chardev_add(struct command_call *call, const json_t *args, json_t **ret_value,
			       struct err **err)
{
	const char *pty = NULL;
	int ret = vm_chardev_add(objects_vm(call), control_text(args, "id"),
				 json_object_get(args, "backend"), &pty, err);

	return ret ? ret : control_answer(json_pack("{s:s*}", "pty", pty), ret_value, err);
}

static int objects_chardev_add_human(struct command_call *call, const json_t *args,
				     json_t **ret_value, struct err **err)
{
	const char *pty = NULL;
	json_t *values;
	int ret = opts_parse("chardev-add", control_text(args, "args"), "backend", 0, &values, err);

	if (ret)
		return ret;
	ret = vm_chardev_add_keys(objects_vm(call), values, &pty, err);
	json_decref(values);
	return ret ? ret : control_answer(json_pack("{s:s*}", "pty", pty), ret_value, err);
}

static void objects_print_chardev(struct command_call *call, const json_t *value)
{
	if (json_object_get(value, "pty"))
		command_printf(call, "char device redirected to %s\n", control_text(value, "pty"));
}

static int objects_chardev_remove(struct command_call *call, const json_t *args, json_t **ret_value,
				  struct err **err)
{
	(void)ret_value;
	return vm_chardev_remove(objects_vm(call), control_text(args, "id"), err);
}

/* ---- descriptors ---- */

static int objects_take_fd(struct command_call *call, int *ret_fd, struct err **err)
{
	*ret_fd = command_take_fd(call);
	if (*ret_fd < 0)
		return err_set(err, EINVAL, "No file descriptor supplied via SCM_RIGHTS");
	return 0;
}

static int objects_getfd(struct command_call *call, const json_t *args, json_t **ret_value,
			 struct err **err)
{
	int fd, ret = objects_take_fd(call, &fd, err);

	(void)ret_value;
	if (ret)
		return ret;
	return fds_name(vm_fds(objects_vm(call)), "getfd", control_text(args, "fdname"), fd, err);
}

static int objects_closefd(struct command_call *call, const json_t *args, json_t **ret_value,
			   struct err **err)
{
	int fd, ret = fds_take(vm_fds(objects_vm(call)), "closefd", control_text(args, "fdname"),
			       &fd, err);

	(void)ret_value;
	if (!ret)
		close(fd);
	return ret;
}

static int objects_add_fd(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	const char *opaque = json_string_value(json_object_get(args, "opaque"));
	const json_t *given = json_object_get(args, "fdset-id");
	int64_t wanted = json_integer_value(given), set;
	int fd, ret = objects_take_fd(call, &fd, err);

	if (!ret)
		ret = fds_set_add(vm_fds(objects_vm(call)), "add-fd", given ? &wanted : NULL, fd,
				  opaque, &set, err);
	if (ret)
		return ret;
	return control_answer(json_pack("{s:I, s:i}", "fdset-id", (json_int_t)set, "fd", fd),
			      ret_value, err);
}

static int objects_remove_fd(struct command_call *call, const json_t *args, json_t **ret_value,
			     struct err **err)
{
	int64_t set = json_integer_value(json_object_get(args, "fdset-id"));
	const json_t *given = json_object_get(args, "fd");
	int64_t fd = json_integer_value(given);

	(void)ret_value;
	return fds_set_remove(vm_fds(objects_vm(call)), "remove-fd", set, given ? &fd : NULL, err);
}

static int objects_query_fdsets(struct command_call *call, const json_t *args, json_t **ret_value,
				struct err **err)
{
	(void)args;
	return control_answer(fds_sets(vm_fds(objects_vm(call))), ret_value, err);
}

/* ---- the module ---- */

static const struct command objects_commands[] = {
	{
		.name = "object-add",
		.human = "object_add",
		.args = "ObjectOptions",
		.human_args = "object:S",
		.params = "qom-type,id=id[,key=value][,...]",
		.help = "add an object, as -object does",
		.run = objects_add,
		.human_run = objects_add_human,
		.complete = control_complete_object_type,
	},
	{
		.name = "object-del",
		.human = "object_del",
		.args = "id:str",
		.human_args = "id:s",
		.params = "id",
		.help = "remove an object that nothing uses",
		.run = objects_del,
		.complete = control_complete_object,
	},
	{
		.name = "chardev-add",
		.human = "chardev-add",
		.args = "id:str backend:ChardevBackend",
		.returns = "ChardevReturn",
		.human_args = "args:S",
		.params = "backend,id=id[,key=value][,...]",
		.help = "add a character device, as -chardev does",
		.flags = COMMAND_BARE,
		.run = objects_chardev_add,
		.human_run = objects_chardev_add_human,
		.print = objects_print_chardev,
	},
	{
		.name = "chardev-remove",
		.human = "chardev-remove",
		.args = "id:str",
		.human_args = "id:s",
		.params = "id",
		.help = "remove a character device that nothing uses",
		.flags = COMMAND_BARE,
		.run = objects_chardev_remove,
		.complete = control_complete_chardev,
	},
	{
		.name = "getfd",
		.human = "getfd",
		.args = "fdname:str",
		.human_args = "fdname:s",
		.params = "name",
		.help = "keep a file descriptor that comes along, under a name",
		.flags = COMMAND_BARE,
		.run = objects_getfd,
	},
	{
		.name = "closefd",
		.human = "closefd",
		.args = "fdname:str",
		.human_args = "fdname:s",
		.params = "name",
		.help = "close a file descriptor that getfd kept",
		.flags = COMMAND_BARE,
		.run = objects_closefd,
	},
	{
		.name = "add-fd",
		.args = "*fdset-id:int *opaque:str",
		.returns = "AddfdInfo",
		.help = "put a file descriptor that comes along into a set, for /dev/fdset/ID",
		.flags = COMMAND_BARE,
		.run = objects_add_fd,
	},
	{
		.name = "remove-fd",
		.args = "fdset-id:int *fd:int",
		.help = "close a file descriptor of a set, or all of them",
		.flags = COMMAND_BARE,
		.run = objects_remove_fd,
	},
	{
		.name = "query-fdsets",
		.returns = "[FdsetInfo]",
		.help = "show the sets of file descriptors",
		.flags = COMMAND_BARE,
		.run = objects_query_fdsets,
	},
	{.name = NULL},
};

#define OBJECTS_MEMORY_BACKEND                                                                \
	"*dump:bool *host-nodes:[uint16] *merge:bool *policy:HostMemPolicy *prealloc:bool "   \
	"*prealloc-threads:uint32 *prealloc-context:str *share:bool *reserve:bool size:size " \
	"*max-size:size *x-use-canonical-path-for-ramblock-id:bool"
#define OBJECTS_CHARDEV "*logfile:str *logappend:bool"

static const struct qmp_type objects_types[] = {
	{
		.name = "ObjectType",
		.kind = QMP_ENUM,
		.members = "iothread memory-backend-file memory-backend-memfd memory-backend-ram "
			   "rng-builtin rng-random secret",
	},
	{
		.name = "MemoryBackendProperties",
		.kind = QMP_STRUCT,
		.members = OBJECTS_MEMORY_BACKEND,
	},
	{
		.name = "MemoryBackendFileProperties",
		.kind = QMP_STRUCT,
		.members = OBJECTS_MEMORY_BACKEND
		" *align:size *discard-data:bool mem-path:str *offset:size *pmem:bool "
		"*readonly:bool *rom:OnOffAuto",
	},
	{
		.name = "MemoryBackendMemfdProperties",
		.kind = QMP_STRUCT,
		.members = OBJECTS_MEMORY_BACKEND " *hugetlb:bool *hugetlbsize:size *seal:bool",
	},
	{.name = "OnOffAuto", .kind = QMP_ENUM, .members = "auto on off"},
	{.name = "RngRandomProperties", .kind = QMP_STRUCT, .members = "*filename:str"},
	{.name = "QCryptoSecretFormat", .kind = QMP_ENUM, .members = "raw base64"},
	{
		.name = "SecretProperties",
		.kind = QMP_STRUCT,
		.members = "*format:QCryptoSecretFormat *keyid:str *iv:str *data:str *file:str",
	},
	{
		.name = "ObjectOptions",
		.kind = QMP_UNION,
		.members = "qom-type:ObjectType id:str",
		.tag = "qom-type",
		.variants = "memory-backend-ram:MemoryBackendProperties "
			    "memory-backend-memfd:MemoryBackendMemfdProperties "
			    "memory-backend-file:MemoryBackendFileProperties "
			    "rng-random:RngRandomProperties secret:SecretProperties",
	},
	{
		.name = "ChardevBackendKind",
		.kind = QMP_ENUM,
		.members = "file socket pty null stdio",
	},
	{.name = "ChardevCommon", .kind = QMP_STRUCT, .members = OBJECTS_CHARDEV},
	{.name = "ChardevCommonWrapper", .kind = QMP_STRUCT, .members = "data:ChardevCommon"},
	{
		.name = "ChardevFile",
		.kind = QMP_STRUCT,
		.members = OBJECTS_CHARDEV " *in:str out:str *append:bool",
	},
	{.name = "ChardevFileWrapper", .kind = QMP_STRUCT, .members = "data:ChardevFile"},
	{
		.name = "ChardevStdio",
		.kind = QMP_STRUCT,
		.members = OBJECTS_CHARDEV " *signal:bool",
	},
	{.name = "ChardevStdioWrapper", .kind = QMP_STRUCT, .members = "data:ChardevStdio"},
	{.name = "SocketAddressType", .kind = QMP_ENUM, .members = "inet unix fd"},
	{
		.name = "InetSocketAddress",
		.kind = QMP_STRUCT,
		.members = "host:str port:str *numeric:bool *ipv4:bool *ipv6:bool *keep-alive:bool "
			   "*mptcp:bool",
	},
	{
		.name = "InetSocketAddressWrapper",
		.kind = QMP_STRUCT,
		.members = "data:InetSocketAddress",
	},
	{
		.name = "UnixSocketAddress",
		.kind = QMP_STRUCT,
		.members = "path:str *abstract:bool *tight:bool",
	},
	{
		.name = "UnixSocketAddressWrapper",
		.kind = QMP_STRUCT,
		.members = "data:UnixSocketAddress",
	},
	{.name = "String", .kind = QMP_STRUCT, .members = "str:str"},
	{.name = "StringWrapper", .kind = QMP_STRUCT, .members = "data:String"},
	{
		.name = "SocketAddressLegacy",
		.kind = QMP_UNION,
		.members = "type:SocketAddressType",
		.tag = "type",
		.variants = "inet:InetSocketAddressWrapper unix:UnixSocketAddressWrapper "
			    "fd:StringWrapper",
	},
	{
		.name = "ChardevSocket",
		.kind = QMP_STRUCT,
		.members =
			OBJECTS_CHARDEV " addr:SocketAddressLegacy *tls-creds:str *tls-authz:str "
					"*server:bool *wait:bool *nodelay:bool *telnet:bool "
					"*tn3270:bool *websocket:bool *reconnect:int",
	},
	{.name = "ChardevSocketWrapper", .kind = QMP_STRUCT, .members = "data:ChardevSocket"},
	{
		.name = "ChardevBackend",
		.kind = QMP_UNION,
		.members = "type:ChardevBackendKind",
		.tag = "type",
		.variants = "file:ChardevFileWrapper socket:ChardevSocketWrapper "
			    "pty:ChardevCommonWrapper null:ChardevCommonWrapper "
			    "stdio:ChardevStdioWrapper",
	},
	{.name = "ChardevReturn", .kind = QMP_STRUCT, .members = "*pty:str"},
	{.name = "AddfdInfo", .kind = QMP_STRUCT, .members = "fdset-id:int fd:int"},
	{.name = "FdsetFdInfo", .kind = QMP_STRUCT, .members = "fd:int *opaque:str"},
	{.name = "FdsetInfo", .kind = QMP_STRUCT, .members = "fdset-id:int fds:[FdsetFdInfo]"},
	{.name = NULL},
};

const struct qmp_module control_objects_module = {objects_commands, objects_types, NULL};
