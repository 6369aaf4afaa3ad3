/* linked.h - records that lie in a file of the user.
 *
 * The file is not ours: somebody may change, cut, replace or remove it at any
 * time, and must get an error that says so, never wrong bytes or a signal.
 *
 *     mdn_linked_map       checked for size and mtime, and mapped
 *     mdn_linked_verify    checked again, its pages populated, its checksum
 *                          calculated under a guard: for each block
 *     mdn_linked_read      under a guard: for each gather
 *     mdn_linked_check     checked again, behind each gather
 *
 * What is still not noticed is a change that leaves size and mtime as they
 * were, in a block that was verified in this process before. */
#ifndef MDN_STORAGE_LINKED_H
#define MDN_STORAGE_LINKED_H

#include "storage/verify.h"

/* MDN_CORRUPT, naming the file, if that is not the file that was linked. */
mdn_status mdn_link_compare(const mdn_link *link, const mdn_file_facts *facts,
                            mdn_error *err);

/* Map the records of a segment, if they are not yet. */
mdn_status mdn_linked_map(mdn_store *store, uint64_t segment,
                          const mdn_link *link, mdn_error *err);

/* The checksum, continued from *crc, of `rows` rows from that of key on, which
 * are all in one mapped segment. */
mdn_status mdn_linked_verify(mdn_store *store, uint64_t key, uint64_t rows,
                             uint32_t *crc, mdn_error *err);

/* work(arg) under a guard; *st is its own to fill.  MDN_CORRUPT or MDN_IO when
 * a linked file has lost the page that was to be read. */
mdn_status mdn_linked_read(mdn_store *store, void (*work)(void *arg), void *arg,
                           mdn_error *err);

/* After rows of `keys` were read: are the files still what they were? */
mdn_status mdn_linked_check(const mdn_view *view, const uint64_t *keys,
                            uint64_t count, mdn_error *err);

/* Bytes from the first to the end of the last record of a segment. */
uint64_t mdn_linked_span(const mdn_store *store, const mdn_link *link);

#endif
