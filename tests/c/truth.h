/* truth.h - what a dataset must show, kept outside of it.
 *
 * Every append writes other content, also when it writes keys that a failed
 * append tried before: the content of a sample is a function of its key and of
 * the number of the append, its *take*.  It consists of cells of 32 bytes that
 * begin with a mark and name key and take, so that a search of the files finds
 * whose bytes are in them.
 *
 * The truth holds a state, and while nobody knows what became of the last
 * operation a second one: at most one operation is in doubt at a time. */
#ifndef TESTS_TRUTH_H
#define TESTS_TRUTH_H

#include "storage/dataset.h"
#include "storage/order.h"

#define TRUTH_FIXED "cell: uint8[32]\na: int32\n"
#define TRUTH_RAGGED "s: bytes\na: int32\nt: bytes\n"

typedef struct {
    uint64_t count;
    uint32_t *take;  /* by key */
    uint8_t *erased; /* by key: 0 or 1 */
    uint64_t erased_count;
    uint64_t room; /* of both arrays */
    uint64_t source_count;
    uint32_t *sources;    /* the take that each came with */
    uint64_t source_room; /* of this array */
} truth_state;

typedef struct {
    bool ragged, labels;
    bool in_doubt;          /* whether `then` is true or `now` */
    truth_state now, then;  /* then: if the operation in doubt was done */
    uint32_t takes;         /* appends tried so far */
    uint64_t large_payload; /* size of a rare payload behind the first append;
                               0: there is none */
} truth;

void truth_init(truth *t, bool ragged, bool labels);
void truth_free(truth *t);
void truth_copy(truth_state *to, const truth_state *from);
void truth_free_state(truth_state *state);

/* Create the dataset that t describes; aborts on failure. */
mdn_dataset *truth_create(const truth *t, const mdn_io *io, const char *path);

/* A batch to append: columns of count samples from t->now.count on, with a
 * take of its own. */
typedef struct {
    uint64_t count;
    mdn_column columns[3];
    int64_t *labels, *timestamps;
} truth_batch;

truth_batch truth_draw(truth *t, uint64_t count);
void truth_free_batch(truth_batch *batch);

/* The payload of the entry of `sources` that comes with the batch drawn last:
 * malloc'd. */
uint8_t *truth_draw_source(const truth *t, uint64_t *size);

/* The states after such an operation, from t->now. */
void truth_append(const truth *t, uint64_t count, bool source,
                  truth_state *out);
void truth_erase(const truth *t, const uint64_t *keys, uint64_t count,
                 truth_state *out);

/* Compare all that a handle and its view show with a state: samples by key in
 * order and scrambled, on so many threads; what is erased; the journals.
 * MDN_OK; MDN_INVALID: something is wrong, which must not be; otherwise the
 * error of the view. */
mdn_status truth_compare(const truth *t, const truth_state *state,
                         mdn_dataset *dataset, mdn_view *view, uint32_t threads,
                         mdn_error *err);

/* The view of a dataset that was damaged and repaired: of the first samples of
 * a state it shows each one as it was, or refuses it as damaged; none that was
 * erased is back. */
mdn_status truth_compare_rest(const truth *t, const truth_state *state,
                              mdn_view *view, mdn_error *err);

/* The time order of a view names each sample once, in order.  It may write a
 * file beside the dataset's own. */
mdn_status truth_compare_order(mdn_view *view, uint32_t threads,
                               mdn_error *err);

/* Of the truth, in doubt, that of the two states whose counts the handle and
 * its view show; NULL where even they cannot be read. */
const truth_state *truth_state_of(const truth *t, mdn_dataset *dataset,
                                  const mdn_view *view);

/* Look at the files of the dataset: none is there whose name is strange, and,
 * once compacted, none holds a byte of an erased sample. */
mdn_status truth_check_files(const truth *t, const char *path, bool compacted,
                             mdn_error *err);

#endif
