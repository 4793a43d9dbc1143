/* SPDX-License-Identifier: BSD-3-Clause */
/* What KVM counts: see kvm_stats.h for the contract. */
#include "vmm/kvm/kvm_stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

/* Far more than any kernel has. */
#define STATS_NAME_MAX   256u
#define STATS_COUNT_MAX  1024u
#define STATS_VALUES_MAX 1024u /* of one figure */

struct stats_image {
	struct kvm_stats_header header;
	size_t desc_size; /* with its name */
	char *descs;
	uint64_t *values;
	size_t nr_values;
};

int kvm_stats_open(int fd)
{
	return ioctl(fd, KVM_GET_STATS_FD, 0);
}

static int stats_pread(int fd, void *buf, size_t size, uint32_t offset)
{
	ssize_t n = pread(fd, buf, size, offset);

	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EPROTO;
}

static const struct kvm_stats_desc *stats_desc(const struct stats_image *image, uint32_t i)
{
	return (const struct kvm_stats_desc *)(image->descs + i * image->desc_size);
}

static int stats_read_descs(struct stats_image *image, int fd)
{
	const struct kvm_stats_header *h = &image->header;
	size_t end = 0;
	int ret = stats_pread(fd, &image->header, sizeof(image->header), 0);

	if (ret)
		return ret;
	/* Descriptions lie one behind the other, as structures with 64-bit fields. */
	if (!h->name_size || h->name_size > STATS_NAME_MAX || h->name_size % sizeof(uint64_t) ||
	    h->num_desc > STATS_COUNT_MAX)
		return -EPROTO;
	image->desc_size = sizeof(struct kvm_stats_desc) + h->name_size;
	image->descs = calloc(h->num_desc + 1, image->desc_size);
	if (!image->descs)
		return -ENOMEM;
	ret = stats_pread(fd, image->descs, h->num_desc * image->desc_size, h->desc_offset);
	for (uint32_t i = 0; i < h->num_desc && !ret; i++) {
		const struct kvm_stats_desc *d = stats_desc(image, i);
		size_t last = d->offset / sizeof(uint64_t) + d->size;

		if (!memchr(d->name, 0, h->name_size) || !d->size || d->size > STATS_VALUES_MAX ||
		    d->offset % sizeof(uint64_t) || last > STATS_COUNT_MAX * STATS_VALUES_MAX)
			ret = -EPROTO;
		else if (last > end)
			end = last;
	}
	image->nr_values = end;
	return ret;
}

static int stats_read_values(struct stats_image *image, int fd)
{
	image->values = calloc(image->nr_values + 1, sizeof(*image->values));
	if (!image->values)
		return -ENOMEM;
	return stats_pread(fd, image->values, image->nr_values * sizeof(*image->values),
			   image->header.data_offset);
}

int kvm_stats_read(int fd, void (*fn)(void *opaque, const struct kvm_stat *stat), void *opaque)
{
	struct stats_image image = {.descs = NULL};
	int ret = stats_read_descs(&image, fd);

	if (!ret)
		ret = stats_read_values(&image, fd);
	for (uint32_t i = 0; i < image.header.num_desc && !ret; i++) {
		const struct kvm_stats_desc *d = stats_desc(&image, i);
		const struct kvm_stat stat = {
			.name = d->name,
			.flags = d->flags,
			.exponent = d->exponent,
			.bucket_size = d->bucket_size,
			.values = image.values + d->offset / sizeof(uint64_t),
			.nr = d->size,
		};

		fn(opaque, &stat);
	}
	free(image.descs);
	free(image.values);
	return ret;
}
