/* record.h - one commit as the 128 bytes that the manifest holds of it, and the
 * reach that speaks of commits from beside them.  docs/format.md has the
 * layout; nothing here touches a file. */
#ifndef MDN_STORAGE_RECORD_H
#define MDN_STORAGE_RECORD_H

#include "storage/layout.h"

#define MDN_RECORD_SIZE 128
#define MDN_REACH_SIZE 16

/* Whether this is, as it stands, the commit record of this number. */
bool mdn_record_is_whole(const mdn_layout *layout, const uint8_t *record,
                         uint64_t sequence);
/* Of a whole one: whether this modyn knows what it says. */
bool mdn_record_is_known(const uint8_t *record);
uint32_t mdn_record_kind(const uint8_t *record);
/* What it says; the checksum that its successor repeats; and that of the one
 * before, which it repeats. */
void mdn_record_load(const uint8_t *record, mdn_tail *out);
uint32_t mdn_record_check(const uint8_t *record);
uint32_t mdn_record_chain(const uint8_t *record);

/* Whether a writer can have committed `next` after `before`. */
bool mdn_record_follows(const mdn_layout *layout, const mdn_tail *before,
                        const mdn_tail *next);

/* The record of this commit, as of now. */
void mdn_record_build(const mdn_layout *layout, uint64_t sequence,
                      uint32_t chain, const mdn_tail *tail,
                      uint8_t record[MDN_RECORD_SIZE]);
/* The same commit under another number, after another record. */
void mdn_record_renumber(const mdn_layout *layout, uint64_t sequence,
                         uint32_t chain, uint8_t record[MDN_RECORD_SIZE]);
/* The same commit with other journals. */
void mdn_record_set_journals(const mdn_tail *tail,
                             uint8_t record[MDN_RECORD_SIZE]);

typedef enum {
    MDN_REACH_NONE, /* zeros: never written */
    MDN_REACH_WHOLE,
    MDN_REACH_DAMAGED,
} mdn_reach_state;

/* *sequence is 0 unless the slot is whole. */
mdn_reach_state mdn_reach_load(const mdn_layout *layout,
                               const uint8_t slot[MDN_REACH_SIZE],
                               uint64_t *sequence);
void mdn_reach_build(const mdn_layout *layout, uint64_t sequence,
                     uint8_t slot[MDN_REACH_SIZE]);

#endif
