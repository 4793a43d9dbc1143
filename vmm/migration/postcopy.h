/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Postcopy: the guest runs on the target, and what the target has not yet is sent, what it waits for
 * first. The pieces of both sides; outgoing.c and incoming.c own connections and status.
 *
 *	source	stop the guest; postcopy_send_list() makes POSTCOPY_RUN payloads of the pages that are
 *		left; then a loop: postcopy_send_next() -> send PAGES or ZEROS. WANT payloads go to
 *		postcopy_send_want() as they come
 *	target	POSTCOPY_RUN payloads to postcopy_receive_list(), then lazy_start(): the guest runs.
 *		lazy's want() -> postcopy_want_encode() -> WANT. Pages go to lazy_put()
 *	broken	both keep their state. On a new connection the target sends what it has by
 *		postcopy_receive_have(); the source takes it with postcopy_send_have() and goes on:
 *		what was on its way is sent again. Then lazy_want_again()
 *
 * I1  Each page is sent once per connection; the guest's memory on the source does not change any
 *     more, so a page that comes twice is the same.
 * I2  Payloads are bounded (RECORD_MAX), and so may be several; each says for itself what it is about.
 *
 * Threads: a sender's calls from any thread.
 * The other side controls every payload; pages that are in no block, or that never were to be sent, are
 * refused.
 */
#ifndef VMM_MIGRATION_POSTCOPY_H
#define VMM_MIGRATION_POSTCOPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct lazy;
struct postcopy_send;

/* What a payload is handed to: send it as a record. 0, or what ends the call it is called from. */
typedef int postcopy_emit_fn(void *opaque, const void *bytes, size_t size, struct err **err);

/* ---- source ---- */

/* Nothing is left. Block sizes in pages; copied. */
int postcopy_send_new(const uint64_t *block_pages, size_t nr_blocks,
		      struct postcopy_send **ret_send, struct err **err);
void postcopy_send_free(struct postcopy_send *s);
/* Before the list: pages that have to be sent; the first page of @words is a multiple of 64. */
void postcopy_send_add(struct postcopy_send *s, size_t block, uint64_t page, const uint64_t *words,
		       size_t nr_words);
/* POSTCOPY_RUN payloads of all that is left, one at least; nothing is sent meanwhile. */
int postcopy_send_list(struct postcopy_send *s, postcopy_emit_fn *emit, void *opaque,
		       struct err **err);
/* A WANT payload. Pages that were sent already are on their way: nothing happens. */
int postcopy_send_want(struct postcopy_send *s, const void *bytes, size_t size, struct err **err);
/*
 * A run of @max pages at most to be sent now, wanted ones first, and then what follows them; it
 * is not left any more. False when nothing is left, or what is left is in doubt.
 */
bool postcopy_send_next(struct postcopy_send *s, uint64_t max, size_t *ret_block,
			uint64_t *ret_page, uint64_t *ret_nr, bool *ret_wanted);
/* Is a page wanted that was not sent? For a sender that holds itself back. */
bool postcopy_send_is_wanted(struct postcopy_send *s);
uint64_t postcopy_send_left(struct postcopy_send *s);

/* A new connection: everything is in doubt until the target has told what it has. */
void postcopy_send_recover(struct postcopy_send *s);
/* A HAVE payload: of these pages, those that it lacks are left. */
int postcopy_send_have(struct postcopy_send *s, const void *bytes, size_t size, struct err **err);
/* After the last HAVE payload: every page was told. -EINVAL with a sentence when not. */
int postcopy_send_recovered(struct postcopy_send *s, struct err **err);

/* ---- target ---- */

#define POSTCOPY_WANT_BYTES 20u

/* A POSTCOPY_RUN payload: what is left comes anew (lazy_expect_pages()). */
int postcopy_receive_list(struct lazy *lazy, const uint64_t *block_pages, size_t nr_blocks,
			  const void *bytes, size_t size, struct err **err);
/* HAVE payloads of all blocks. */
int postcopy_receive_have(struct lazy *lazy, const uint64_t *block_pages, size_t nr_blocks,
			  postcopy_emit_fn *emit, void *opaque, struct err **err);
/* A WANT payload. */
void postcopy_want_encode(size_t block, uint64_t page, uint64_t nr,
			  uint8_t bytes[POSTCOPY_WANT_BYTES]);

#endif
