/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * -rtc: what the guest's clock shows when the machine is switched on: the host's time, or a date of
 * its own, UTC as the guest reads it, from which it goes on at the host's pace. See internal.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "vmm/cmdline/internal.h"

#define RTC_YEAR_MIN 1970
#define RTC_YEAR_MAX 2099 /* what two digits and the century's byte are good for */

struct rtc_options {
	char *base;
};

static const char *const rtc_clocks[] = {"host", "vm", NULL};
static const char *const rtc_driftfixes[] = {"none", "slew", NULL};

static const struct prop rtc_list[] = {
	{.name = "base",
	 .type = PROP_STRING,
	 PROP_FIELD(struct rtc_options, base),
	 .help = "what the clock shows: utc, localtime, or a date"},
	{.name = "clock",
	 .type = PROP_ENUM,
	 .names = rtc_clocks,
	 .refused = "vm",
	 .why = "the clock goes on while the guest stands still, as with a battery",
	 .help = "what it follows"},
	{.name = "driftfix",
	 .type = PROP_ENUM,
	 .names = rtc_driftfixes,
	 .help = "accepted; there is no periodic interrupt that could drift"},
};
const struct props cmdline_rtc_props = {NULL, rtc_list, ARRAY_SIZE(rtc_list)};

/* "2006-06-17T16:01:21" or "2006-06-17". False where it is no date that there is. */
static bool rtc_parse_date(const char *text, int64_t *ret_s)
{
	static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct tm tm = {.tm_mday = 1}, back;
		const char *end = strptime(text, forms[i], &tm);
		struct tm given = tm;
		time_t at;

		if (!end || *end || tm.tm_year + 1900 < RTC_YEAR_MIN ||
		    tm.tm_year + 1900 > RTC_YEAR_MAX)
			continue;
		/* the 31st of February is some other day */
		at = timegm(&tm);
		if (!gmtime_r(&at, &back) || back.tm_mday != given.tm_mday ||
		    back.tm_sec != given.tm_sec)
			continue;
		*ret_s = at;
		return true;
	}
	return false;
}

static int rtc_set_base(struct vm_rtc_config *rtc, const char *option, const char *text,
			struct err **err)
{
	if (!strcmp(text, "utc"))
		rtc->base = VM_RTC_UTC;
	else if (!strcmp(text, "localtime"))
		rtc->base = VM_RTC_LOCALTIME;
	else if (rtc_parse_date(text, &rtc->date_s))
		rtc->base = VM_RTC_DATE;
	else
		return err_set(err, EINVAL,
			       "%s: base=%s is unknown; allowed: utc, localtime, or a date from %d "
			       "to %d, like 2006-06-17T16:01:21",
			       option, text, RTC_YEAR_MIN, RTC_YEAR_MAX);
	return 0;
}

int cmdline_rtc(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	struct rtc_options options = {.base = NULL};
	int ret = cmdline_apply(&cmdline_rtc_props, option, arg, NULL, &options, err);

	if (!ret && options.base)
		ret = rtc_set_base(&cl->config->rtc, option, options.base, err);
	props_done(&cmdline_rtc_props, &options);
	return ret;
}
