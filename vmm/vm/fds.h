/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptors that were handed over to be used later: in numbered sets, whose members open the path
 * /dev/fdset/N (-add-fd, add-fd), and under names (getfd).
 *
 * I1  Every descriptor in here is closed exactly once, or given away; all are close-on-exec.
 * I2  Whoever opens a set gets a descriptor of its own, so that one can be removed at any time.
 * I3  There are FDS_MAX at most, and their names and remarks are FDS_TEXT_MAX bytes at most.
 *
 * Threads: one at a time, the main one. A monitor's client controls numbers, names and what is behind
 * the descriptors.
 */
#ifndef VMM_VM_FDS_H
#define VMM_VM_FDS_H

#include <jansson.h>
#include <stdint.h>

struct err;
struct fds;

#define FDS_MAX      256u
#define FDS_TEXT_MAX 255u

/* NULL when memory is out. */
struct fds *fds_new(void);
/* Closes all. NULL is allowed. */
void fds_free(struct fds *fds);

/* @what starts sentences ("add-fd"). Numbers of sets are 0 or more. */

/*
 * Put @fd into a set, which is made if it is not there. @set NULL: a new set with the lowest number
 * that none has. @opaque is a remark, or NULL. Takes @fd over, also when it fails.
 */
int fds_set_add(struct fds *fds, const char *what, const int64_t *set, int fd, const char *opaque,
		int64_t *ret_set, struct err **err);
/* Close a member, or all with @fd NULL. */
int fds_set_remove(struct fds *fds, const char *what, int64_t set, const int64_t *fd,
		   struct err **err);
/* A duplicate of the first member that can be written to. */
int fds_set_open(const struct fds *fds, const char *what, int64_t set, int *ret_fd,
		 struct err **err);
/* As query-fdsets tells it, by number; a new reference, NULL when memory is out. */
json_t *fds_sets(const struct fds *fds);

/* Keep @fd under a name; one that it had before is closed. Takes @fd over, also when it fails. */
int fds_name(struct fds *fds, const char *what, const char *name, int fd, struct err **err);
/* A duplicate of the descriptor of a name. */
int fds_open(const struct fds *fds, const char *what, const char *name, int *ret_fd,
	     struct err **err);
/* The descriptor of a name, which is forgotten. The caller's. */
int fds_take(struct fds *fds, const char *what, const char *name, int *ret_fd, struct err **err);

#endif
