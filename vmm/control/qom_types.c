/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands about the classes of the object tree: see qom.h. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "vmm/control/answer.h"
#include "vmm/control/qom.h"

static json_t *type_info(const struct qom_class *class)
{
	json_t *info = json_pack("{s:s}", "name", class->name);

	if (class->flags & QOM_ABSTRACT)
		control_set(&info, "abstract", json_true());
	if (class->parent)
		control_set(&info, "parent", json_string(class->parent));
	return info;
}

int qom_run_list_types(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	const char *implements = json_string_value(json_object_get(args, "implements"));
	bool abstract = json_is_true(json_object_get(args, "abstract"));
	struct control_list list;

	(void)call;
	control_list_init(&list);
	for (const struct qom_class *class = qom_classes; class->name; class ++) {
		if ((abstract || !(class->flags & QOM_ABSTRACT)) &&
		    (!implements || qom_class_is(class, implements)))
			control_list_add(&list, type_info(class));
	}
	return control_answer(control_list_end(&list), ret_value, err);
}

/* A class that is not there has no properties: programs ask for what may be there. */
int qom_run_list_properties(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err)
{
	const struct qom_class *class = qom_class_find(control_text(args, "typename"));
	struct control_list list;
	struct qom_props props;
	struct qom_prop prop;

	(void)call;
	control_list_init(&list);
	if (class) {
		qom_props_start(&props, class);
		while (qom_props_next(&props, &prop))
			control_list_add(&list,
					 qom_prop_info(prop.name, prop.type, prop.help, NULL));
	}
	return control_answer(control_list_end(&list), ret_value, err);
}

/* What every device has is left out, and what only shows another property in an older form. */
static bool device_property_is_listed(const char *name)
{
	struct qom_prop common;

	return !qom_prop_find(qom_class_find("device"), name, &common) &&
	       strncmp(name, "legacy-", strlen("legacy-"));
}

int qom_run_device_list_properties(struct command_call *call, const json_t *args,
				   json_t **ret_value, struct err **err)
{
	const char *name = control_text(args, "typename");
	const struct qom_class *class = qom_class_find(name);
	struct control_list list;
	struct qom_props props;
	struct qom_prop prop;

	(void)call;
	if (!class)
		return err_set(err, ENODEV, "Device '%s' not found", name);
	if (!qom_class_is(class, "device") || (class->flags & QOM_ABSTRACT))
		return err_set(err, EINVAL,
			       "Parameter 'typename' expects a non-abstract device type");
	control_list_init(&list);
	qom_props_start(&props, class);
	while (qom_props_next(&props, &prop)) {
		if (device_property_is_listed(prop.name))
			control_list_add(&list, qom_prop_info(prop.name, prop.type, prop.help,
							      qom_prop_default(&prop)));
	}
	return control_answer(control_list_end(&list), ret_value, err);
}
