/* frames.h - the payloads of many records, each as one zstd frame. */
#ifndef MDN_STORAGE_FRAMES_H
#define MDN_STORAGE_FRAMES_H

#include "storage/dataset.h"

/* Frames of rows first .. first+count-1 of a batch; {0} at first. */
typedef struct {
    uint64_t first, count;
    uint64_t *at;    /* place of each row in the room, and their end */
    uint64_t *sizes; /* of the frames; 0: this row is not smaller as one */
    uint8_t *room;   /* for the frames */
    uint8_t *joined; /* for the payloads, with several bytes fields */
    uint64_t size;   /* of room and of joined */
} mdn_frames;

void mdn_frames_free(mdn_frames *frames);

/* Make the frames of rows from `first` on, at least one and at most count, as
 * many as fit into a bounded room; several threads if it is worth it. */
mdn_status mdn_frames_fill(mdn_frames *frames, const mdn_schema *schema,
                           const mdn_column *columns, uint64_t first,
                           uint64_t count, mdn_error *err);

/* The frame of a row that was filled in, and its size; 0: store it as it is. */
static inline uint64_t
mdn_frames_get(const mdn_frames *frames, uint64_t row, const uint8_t **out)
{
    *out = frames->room + frames->at[row - frames->first];
    return frames->sizes[row - frames->first];
}

#endif
